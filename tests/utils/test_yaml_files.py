"""Recipes and studies: what is wrong is named by file, line and field; the paper's plan is its table."""

from __future__ import annotations

import functools
import json

import pytest
from typer.testing import CliRunner

from ofav2_plugins.cli.main import app
from ofav2_plugins.errors import UserError
from ofav2_plugins.models.supernet import build_supernet
from ofav2_plugins.recipes.schema import load_recipe, recipe_names
from ofav2_plugins.space import SearchSpace
from ofav2_plugins.study.schema import load_study, study_arms, study_names
from ofav2_plugins.training.run_config import RunConfig

RECIPE = """\
description: made
batch_size: 8
optimizer:
  momentum: 0.9
phases:
  full:
    epochs: 3
    lr: 0.1
  level:
    - {epochs: 1}
    - epochs: 2
      lr: 0.2
"""

STUDY = """\
dataset: fashion-mini
recipe: quick
seeds: [0, 1]
baseline: A
arms:
  - {name: A, supernet: SE_B}
  - name: B
    supernet: EE_D
"""

# phase: (epochs, rate, warm-up epochs, subnets per step, dimension, unlocked values), one row per step
PAPER = {
    "full": [(180, 0.08, 0, 1, None, None)],
    "kernel": [(120, 0.03, 5, 1, "ks", [3, 5, 7])],
    "level": [(25, 0.0025, 0, 2, "level", [2, 3]), (120, 0.0075, 5, 2, "level", [1, 2, 3])],
    "height": [
        (25, 0.001875, 0, 2, "height", [4, 5]),
        (60, 0.00375, 5, 2, "height", [3, 4, 5]),
        (90, 0.0075, 5, 2, "height", [2, 3, 4, 5]),
        (120, 0.015, 5, 2, "height", [1, 2, 3, 4, 5]),
    ],
    "depth": [(25, 0.0025, 0, 2, "d", [3, 4]), (120, 0.0075, 5, 2, "d", [2, 3, 4])],
    "width": [(25, 0.0025, 0, 4, "e", [4, 6]), (120, 0.0075, 5, 4, "e", [3, 4, 6])],
}


@functools.cache
def space_of(supernet: str) -> SearchSpace:
    """What can be unlocked; it does not depend on the width."""
    return build_supernet(supernet, 2, width_mult=0.25).space


@pytest.fixture
def load(tmp_path):
    """Writes a recipe or a study to a file and loads it."""

    def write_and_load(text: str | bytes, overrides=(), reader=load_recipe):
        path = tmp_path / "made.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return reader(str(path), overrides) if reader is load_recipe else reader(str(path))

    return write_and_load


def message(load, *args, **options) -> str:
    with pytest.raises(UserError) as caught:
        load(*args, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("teacher", ["fixed", "progressive"])
def test_the_papers_plan_is_the_papers_table(variant, teacher):
    wanted = [name for name in PAPER if (name != "level" or "P" in variant) and (name != "height" or "EE" in variant)]
    arm = RunConfig(variant, variant, load_recipe("paper", [f"teacher={teacher}"]), seed=0)
    steps = arm.plan(space_of(variant))
    rows = [(name, number, row) for name in wanted for number, row in enumerate(PAPER[name], start=1)]
    assert len(steps) == len(rows)
    finished: list[str] = []
    for step, (name, number, (epochs, lr, warmup, subnets, dim, unlocked)) in zip(steps, rows, strict=True):
        assert step.to_dict() == {
            "phase": name,
            "step": number,
            "opens": {dim: unlocked} if dim else {},
            "epochs": epochs,
            "warmup_epochs": warmup,
            "lr": lr,
            "subnets_per_step": subnets,
            "starts_from": finished[-1] if finished else None,
            "teacher": "none" if not finished else finished[{"fixed": 0, "progressive": -1}[teacher]],
        }
        assert step.settings.dropout == (0.2 if name == "full" else 0.1)
        finished.append(name if len(PAPER[name]) == 1 else f"{name}-{number}")


def test_the_command_prints_the_same_plan():
    done = CliRunner().invoke(app, ["plan", "--supernet", "EE_DP", "--json", "--set", "phases.kernel.epochs=7"])
    assert done.exit_code == 0
    arm = RunConfig("x", "EE_DP", load_recipe("quick", ["phases.kernel.epochs=7"]), seed=0)
    assert json.loads(done.stdout) == [step.to_dict() for step in arm.plan(space_of("EE_DP"))]
    assert json.loads(done.stdout)[1]["epochs"] == 7


def test_every_recipe_that_ships_plans_every_supernet(variant):
    assert set(recipe_names()) >= {"paper", "proxy", "quick"}
    for name in recipe_names():
        steps = RunConfig(variant, variant, load_recipe(name), seed=0).plan(space_of(variant))
        assert [steps[0].phase.name, steps[-1].phase.name] == ["full", "width"]


def test_every_study_that_ships_loads_with_all_its_arms():
    assert "quick" in study_names()
    for name in study_names():
        study = load_study(name)
        arms = study_arms(study)
        expected = [spec for seed in study.seeds for spec in study.arms if seed in (spec.seeds or study.seeds)]
        for arm, spec in zip(arms, expected, strict=True):
            assert (arm.name, arm.supernet, arm.recipe.teacher) == (spec.name, spec.supernet, spec.teacher)


def test_a_recipe_that_is_right_is_read_as_it_is_written(load):
    recipe = load(RECIPE, ["phases.level.1.lr=0.3", "optimizer.weight_decay=1.0e-3", "evaluation.max_subnets=4"])
    assert recipe.batch_size == 8 and recipe.phases["full"].epochs == 3
    assert [step.lr for step in recipe.phases["level"]] == [None, 0.3]
    assert recipe.optimizer == {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-3}
    assert recipe.evaluation.max_subnets == 4


@pytest.mark.parametrize(
    ("right", "wrong", "line", "field"),
    [
        ("batch_size: 8", "batch_sise: 8", 2, "batch_sise"),
        ("batch_size: 8", "batch_size: 0", 2, "batch_size"),
        ("  momentum: 0.9", "  momentum: 1.5", 4, "optimizer.momentum"),
        ("  momentum: 0.9", "  momentun: 0.9", 4, "optimizer.momentun"),
        ("    lr: 0.1", "    lr: -0.1", 8, "phases.full.lr"),
        ("    lr: 0.1", "    lr: .inf", 8, "phases.full.lr"),
        ("    lr: 0.1", "    learning_rate: 0.1", 8, "phases.full.learning_rate"),
        ("    - {epochs: 1}", "    - {epochs: 1.5}", 10, "phases.level.0.epochs"),
        ("      lr: 0.2", "      lr: -0.2", 12, "phases.level.1.lr"),
        ("      lr: 0.2", "      lrr: 0.2", 12, "phases.level.1.lrr"),
        ("batch_size: 8", "batch_size: 1", 2, "batch_size"),
        ("batch_size: 8", "batch_size: true", 2, "batch_size"),
        ("batch_size: 8", "width_mult: .inf", 2, "width_mult"),
        ("batch_size: 8", "width_mult: true", 2, "width_mult"),
        ("batch_size: 8", "kd_ratio: .nan", 2, "kd_ratio"),
        ("batch_size: 8", "resolutions: [32, true]", 2, "resolutions.1"),
        ("batch_size: 8", "evaluation: {bn_images: 1}", 2, "evaluation.bn_images"),
        ("batch_size: 8", "evaluation: {batch_size: 1}", 2, "evaluation.batch_size"),
        ("    epochs: 3", "    epochs: true", 7, "phases.full.epochs"),
        ("    lr: 0.1", "    lr: true", 8, "phases.full.lr"),
        ("    lr: 0.1", "    warmup_epochs: false", 8, "phases.full.warmup_epochs"),
        ("  full:", "  fill:", 6, "phases.fill"),
    ],
)
def test_a_wrong_field_is_named_with_file_and_line(load, right, wrong, line, field):
    assert RECIPE.count(right) == 1
    text = message(load, RECIPE.replace(right, wrong))
    assert f"made.yaml, line {line}: {field}: " in text
    assert "more)" not in text  # there is one error


def test_an_unknown_field_says_which_are_known(load):
    assert "batch_size" in message(load, RECIPE.replace("batch_size", "batch_sise"))
    text = message(load, RECIPE.replace("    lr: 0.1", "    rate: 0.1"))
    assert "warmup_epochs" in text and "batch_size" not in text


def test_an_unknown_phase_is_answered_with_the_registered_ones_whatever_else_is_wrong(load):
    text = message(load, RECIPE.replace("  full:\n    epochs: 3", "  fill:\n    epochs: 0"))
    assert "made.yaml, line 6: phases.fill: unknown phase; registered phases: depth, full, height" in text
    assert text.endswith("but got 'fill' (and 1 more)")


def test_numbers_may_be_written_as_yaml_does_not_know_them(load):
    assert load(RECIPE.replace("lr: 0.1", "lr: 1e-3")).phases["full"].lr == 1e-3


@pytest.mark.parametrize(
    "weights",
    ["ASCENDING", "{loss: SOME}", "{loss: [0.5, x]}", "{losses: ASC}", "{loss: [.nan, 1]}", "{loss: [-0.5, 1.5]}"],
)
def test_wrong_exit_weights_are_named(load, weights):
    assert "made.yaml, line 13: exit_weights" in message(load, f"{RECIPE}exit_weights: {weights}\n")


def test_a_missing_field_is_named(load):
    assert "phases" in message(load, "batch_size: 8\n")
    text = message(load, STUDY.replace("  - name: B\n    supernet: EE_D\n", "  - {name: B}\n"), reader=load_study)
    assert "made.yaml, line 7: arms.1.supernet: " in text


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: [1\nb: 2\n", 2), ("- 1\n", 1), ("a: 1\n\tb: 2\n", 2), ("a: {b: 1\n", 2), ("just words\n", 1)],
)
def test_a_file_that_is_no_mapping_of_fields_is_named_with_its_line(load, text, line):
    assert f"made.yaml, line {line}: " in message(load, text)


@pytest.mark.parametrize(
    "content",
    [b"a: \x00\x01\n", b"a: \xff\n", b"description: 2020-13-45\n" + RECIPE.encode(), b"", b"\x89PNG\r\n"],
)
def test_a_file_that_is_no_yaml_is_named(load, content):
    assert "made.yaml" in message(load, content)


def test_a_field_that_is_there_twice_is_an_error(load):
    assert "made.yaml, line 13: batch_size: " in message(load, RECIPE + "batch_size: 16\n")
    assert "made.yaml, line 9: lr: " in message(load, RECIPE.replace("    lr: 0.1", "    lr: 0.1\n    lr: 0.2"))


def test_an_alias_is_not_a_duplicated_field(load):
    text = "phases:\n  full: &one {epochs: 1, lr: 0.1}\n  kernel: *one\n  depth: [*one, *one]\n"
    assert load(text).phases["depth"][1].lr == 0.1
    assert "made.yaml" in message(load, "description: &loop [*loop]\n")


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("phases.full.lr=-1", "phases.full.lr"),
        ("phases.level.1.lr=-1", "phases.level.1.lr"),
        ("phases.full={epochs: -1}", "phases.full.epochs"),
        ("phases.full.rate=1", "phases.full.rate"),
        ("batch_sise=1", "batch_sise"),
        ("phases.fill.epochs=3", "phases.fill: unknown phase"),
        ("phases.full.5.epochs=3", "phases.full.5: unknown field"),
        ("optimiser.momentum=0.5", "optimiser: unknown field"),
        ("phases.level.7.lr=1", "0..1"),
        ("phases.level.x.lr=1", "0..1"),
        ("batch_size.size=1", "'batch_size' is a value without fields"),
        ("batch_size", "key.sub=value"),
        ("=3", "key.sub=value"),
        ("batch_size=[1", "YAML"),
    ],
)
def test_a_bad_override_is_named(load, override, named):
    text = message(load, RECIPE, [override])
    assert repr(override) in text and named in text


def test_an_error_in_the_file_is_not_blamed_on_an_override(load):
    wrong = RECIPE.replace("    lr: 0.1", "    epochs_: 1")
    assert "made.yaml, line 8: phases.full.epochs_: " in message(load, wrong, ["phases.full.epochs=3"])


def test_the_last_of_several_overrides_is_the_one_that_is_blamed(load):
    text = message(load, RECIPE, ["phases.full.lr=0.1", "phases.full.lr=-1", "phases.full.epochs=2"])
    assert text.startswith("override 'phases.full.lr=-1': phases.full.lr: ")


def test_a_list_of_the_wrong_length_is_named(load):
    short = RECIPE.replace("    - {epochs: 1}\n", "")
    recipe = load(short)
    with pytest.raises(UserError, match=r"phases\.level must list 2 steps.*got 1"):
        RunConfig("x", "SE_P", recipe, seed=0).plan(space_of("SE_P"))
    single = RunConfig("x", "SE_B", recipe, seed=0).plan(space_of("SE_B"))  # has no such phase
    assert [step.phase.name for step in single] == ["full"]


def test_files_that_do_not_exist_are_named_with_what_does():
    for reader, kind, ships in ((load_recipe, "recipe", "proxy"), (load_study, "study", "quick")):
        with pytest.raises(UserError, match=rf"{kind}.*{ships}.*'papre'"):
            reader("papre")
        with pytest.raises(UserError, match=rf"{kind}.*gone\.yaml"):
            reader("gone.yaml")


@pytest.mark.parametrize(
    ("right", "wrong", "line", "named"),
    [
        ("seeds: [0, 1]", "seeds: [0, one]", 3, "seeds.1"),
        ("seeds: [0, 1]", "seeds: []", 3, "seeds"),
        ("seeds: [0, 1]", "sedes: [0, 1]", 3, "sedes"),
        ("{name: A, supernet: SE_B}", "{name: A, supernet: SE_B, tutor: x}", 6, "arms.0.tutor"),
        ("    supernet: EE_D", "    supernet: [EE_D]", 8, "arms.1.supernet"),
    ],
)
def test_a_wrong_field_of_a_study_is_named_with_file_and_line(load, right, wrong, line, named):
    assert f"made.yaml, line {line}: {named}: " in message(load, STUDY.replace(right, wrong), reader=load_study)


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        ("baseline: A", "baseline: C", "baseline .*'C'"),
        ("name: B", "name: A", "'A' is used more than once"),
        ("seeds: [0, 1]", "seeds: [1, 1]", "must be different from each other, but got 1 twice"),
    ],
)
def test_a_study_that_contradicts_itself_is_named(load, right, wrong, named):
    with pytest.raises(UserError, match=rf"made\.yaml.*{named}"):
        load(STUDY.replace(right, wrong), reader=load_study)


@pytest.mark.parametrize(
    ("right", "wrong", "named"),
    [
        ("supernet: EE_D", "supernet: EE_X", "arms.1.supernet.*EE_X"),
        ("supernet: EE_D", "supernet: EE_D\n    teacher: tutor", "arm 'B'.*tutor"),
        ("supernet: EE_D", 'supernet: EE_D\n    overrides: ["batch_sise=1"]', "arm 'B'.*batch_sise"),
        ("dataset: fashion-mini", "dataset: fashion-maxi", "fashion-maxi.*fashion-mini"),
        ("recipe: quick", "recipe: quack", "quick.*'quack'"),
    ],
)
def test_an_arm_that_cannot_be_trained_is_named_before_anything_trains(load, right, wrong, named):
    with pytest.raises(UserError, match=named):
        study_arms(load(STUDY.replace(right, wrong), reader=load_study))


def test_study_arms_have_the_studys_the_arms_and_the_callers_overrides_in_this_order(load):
    text = (
        STUDY
        + '    overrides: ["batch_size=3", "label_smoothing=0.3"]\n'
        + 'overrides: ["batch_size=2", "kd_ratio=2"]\n'
    )
    arms = study_arms(load(text, reader=load_study), ["optimizer.momentum=0.4"])
    assert [(arm.name, arm.seed) for arm in arms] == [("A", 0), ("B", 0), ("A", 1), ("B", 1)]
    got = [(a.recipe.batch_size, a.recipe.label_smoothing, a.recipe.kd_ratio, a.recipe.optimizer["momentum"])
           for a in arms[:2]]  # fmt: skip
    assert got == [(2, 0.1, 2, 0.4), (3, 0.3, 2, 0.4)]


def test_a_value_that_contains_itself_is_named(tmp_path):
    (tmp_path / "study.yaml").write_text("&a [*a]\n")
    with pytest.raises(UserError, match=r"study.yaml: cannot be read: a value must not contain itself"):
        load_study(str(tmp_path / "study.yaml"))
