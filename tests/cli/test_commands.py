"""Properties of all commands, and the commands around recipes, studies and plans."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import typer
from ruamel.yaml import YAML
from support.commands import ofav2, overrides

from ofav2_plugins.cli import main
from ofav2_plugins.cli.recipe import json_schema
from ofav2_plugins.errors import UserError
from ofav2_plugins.recipes import schema as recipes
from ofav2_plugins.recipes.schema import load_recipe, recipe_names
from ofav2_plugins.study import schema as studies
from ofav2_plugins.utils.yaml_files import validate


def all_commands() -> dict[str, typer.core.TyperCommand]:
    """Every command by its full name."""
    found = {}
    for name, command in typer.main.get_command(main.app).commands.items():
        if hasattr(command, "commands"):
            found |= {f"{name} {sub}": entry for sub, entry in command.commands.items()}
        else:
            found[name] = command
    return found


@pytest.mark.parametrize("name", sorted(all_commands()))
def test_every_command_has_a_help_text_and_an_example_that_calls_it(name):
    command = all_commands()[name]
    assert command.help
    assert command.epilog and command.epilog.startswith("Example") and f"ofav2 {name}" in command.epilog
    for parameter in command.params:
        assert getattr(parameter, "help", None) or parameter.param_type_name == "argument", parameter.name


@pytest.mark.parametrize("name", sorted(all_commands()))
def test_the_example_of_a_command_is_valid(name):
    examples = all_commands()[name].epilog.partition(": ")[2].split("; ")
    for example in examples:
        parse(shlex.split(example.partition(" > ")[0]))


def test_the_workflow_has_five_valid_commands():
    shown = ofav2().stdout
    lines = [re.split(r"\s{3,}", line.strip())[0] for line in shown.splitlines() if line.startswith("  ofav2")]
    assert len(lines) == 5
    for line in lines:
        parse(shlex.split(line))


def parse(call: list[str]) -> None:
    """Raises for an unknown command or option, a missing argument or a value of the wrong type."""
    assert call[0] == "ofav2"
    command, arguments = typer.main.get_command(main.app), call[1:]
    while hasattr(command, "commands"):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    command.make_context("ofav2", list(arguments))


@pytest.mark.parametrize(
    "call",
    [
        ["plan", "--supernet", "EE_D", "--recipe", "quick"],
        ["plugins"],
        ["doctor"],
        ["watch", "."],
    ],
    ids=lambda call: call[0],
)
def test_with_json_nothing_else_is_printed(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "ofav2_plugins", *call, "--json"],
        capture_output=True, text=True, env={**os.environ, "FORCE_COLOR": "1"},
    )  # fmt: skip
    json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_shell_completion_offers_commands():
    done = subprocess.run(
        [sys.executable, "-m", "ofav2_plugins"],
        env={**os.environ, "_OFAV2_COMPLETE": "complete_bash", "COMP_WORDS": "ofav2 tr", "COMP_CWORD": "1"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == ["train"]


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_that_is_shown_loads_as_the_same_recipe(name, tmp_path):
    path = tmp_path / "shown.yaml"
    path.write_text(ofav2("recipe", "show", name, *overrides("batch_size=32")).stdout)
    assert load_recipe(str(path)) == load_recipe(name, ["batch_size=32"])


def test_the_json_schemas_describe_the_fields():
    recipe = json.loads(ofav2("recipe", "show", "quick", "--schema").stdout)
    assert {"width_mult", "phases", "teacher"} <= set(recipe["properties"])
    assert recipe["additionalProperties"] is False
    assert recipe["$defs"]["Evaluation"]["additionalProperties"] is False
    study = json.loads(ofav2("study", "schema").stdout)
    assert set(study["required"]) == {"dataset", "recipe", "baseline", "arms"}
    for schema, files in ((recipe, recipes.FOLDER), (study, studies.FOLDER)):
        checker = jsonschema.Draft202012Validator(schema)
        for path in files.glob("*.yaml"):
            checker.validate(YAML(typ="safe").load(path.read_text()))


@pytest.mark.parametrize(
    ("fields", "valid"),
    [
        ({}, True),
        ({"exit_weights": "MIX"}, True),
        ({"exit_weights": {"name": "MIX", "loss": [0.5, 0.5]}}, True),
        ({"exit_weights": "MAX"}, False),
        ({"distillation": {"name": "mse"}}, True),
        ({"optimizer": {"momentum": 0.9}}, True),
        ({"optimizer": "adamw"}, True),
        ({"optimizer": 0.9}, False),
        ({"batch_sise": 3}, False),
        ({"batch_size": 1}, False),
        ({"width_mult": 0}, False),
        ({"width_mult": True}, False),
        ({"label_smoothing": 1}, False),
        ({"kd_ratio": -1}, False),
        ({"validation_fraction": 1}, False),
        ({"phases": {"full": {"settings": {}, "epochs": 2}}}, True),
        ({"phases": {"full": {"settings": {}, "steps": [{"epochs": 2}]}}}, True),
        ({"phases": {"full": [{"epochs": 2}, {"epoch": 3}]}}, False),
    ],
)
def test_the_schema_of_recipes_accepts_what_the_loader_accepts(fields, valid):
    content = {"phases": {"full": {"epochs": 1}}, **fields}
    schema = json.loads(json_schema(recipes.Recipe))
    assert jsonschema.Draft202012Validator(schema).is_valid(content) is valid
    if valid:
        validate(content, recipes.Recipe, "test")
    else:
        with pytest.raises(UserError):
            validate(content, recipes.Recipe, "test")


def test_a_study_is_checked_without_training(tmp_path):
    done = ofav2("study", "check", "quick")
    assert done.returncode == 0
    assert "OFAv2, seed 0: full, kernel, height-1" in done.stdout
    path = tmp_path / "mine.yaml"
    path.write_text("dataset: fashion-mini\nrecipe: quick\nbaseline: a\narms:\n  - {name: a, supernet: SE_X}\n")
    error = ofav2("study", "check", path).error
    assert f"{path}, line 5" in error and "SE_X" in error


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path):
    out: Path = tmp_path / "run"
    done = ofav2("train", "--supernet", "SE_B", "--out", out, "--dry-run")
    assert done.returncode == 0
    assert all(step in done.stdout for step in ("full", "kernel", "depth-2", "width-2"))
    assert "10 classes" in done.stdout and "nothing was trained or written" in done.stdout
    assert not out.exists()


def test_doctor_prints_json():
    done = ofav2("doctor", "--json")
    findings = json.loads(done.stdout)
    assert findings and all(set(finding) == {"what", "found", "problem"} for finding in findings)
    assert done.returncode == int(any(finding["problem"] for finding in findings))


def test_plan_of_a_study_lists_every_arm_and_refuses_what_train_refuses(tmp_path):
    arms = json.loads(ofav2("plan", "--study", "quick", "--json").stdout)
    assert {arm: steps[-1]["teacher"] for arm, steps in arms.items()} == {"OFA": "full", "OFAv2": "width-1"}
    assert "--supernet or --study" in ofav2("plan").error
    assert "--teacher" in ofav2("plan", "--study", "quick", "--teacher", "fixed").error
    sandwich = ("--supernet", "SE_B", "--distillation", "none", "--set", "phases={sandwich: {epochs: 1, lr: 0.1}}")
    for command in (("plan",), ("train", "--out", tmp_path / "out")):
        assert "distillation" in ofav2(*command, *sandwich).error
