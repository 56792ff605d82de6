"""The documentation: its commands exist with their options, its pages are listed, its configuration files are valid."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest
import typer
from ruamel.yaml import YAML

import ofav2_plugins
from ofav2_plugins import registry
from ofav2_plugins.cli import main
from ofav2_plugins.cli.recipe import json_schema
from ofav2_plugins.recipes.schema import Recipe
from ofav2_plugins.study.schema import Study

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = {"reference/cli.md", "reference/plugins.md", "reference/yaml.md"}


def commands_in(page: Path) -> list[list[str]]:
    """The calls of `ofav2` in the shell blocks of a page."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines = [
        line.replace("torchrun --nproc-per-node 4 -m ofav2_plugins", "ofav2").partition(" > ")[0] for line in lines
    ]
    calls = [shlex.split(line, comments=True) for line in lines]
    # an option without a command (--install-completion) would act when it is parsed
    return [call[1:] for call in calls if call[:1] == ["ofav2"] and not call[1].startswith("--")]


@pytest.mark.parametrize("page", [p for p in PAGES if commands_in(p)], ids=lambda page: page.stem)
def test_commands_of_a_page_parse(page):
    group = typer.main.get_command(main.app)
    for call in commands_in(page):
        command, arguments = group, call
        while hasattr(command, "commands"):
            command, arguments = command.commands[arguments[0]], arguments[1:]
        command.make_context("ofav2", list(arguments))  # raises for an unknown option or a missing argument


def test_the_site_lists_every_page():
    site = YAML(typ="safe").load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def paths(node):
        if isinstance(node, str):
            return {node}
        return {path for entry in (node.values() if isinstance(node, dict) else node) for path in paths(entry)}

    written = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES[1:]}
    assert paths(site["nav"]) == written | GENERATED


def generate():
    """The module docs/generate.py, which is not part of the package."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_pages_name_every_command_and_field():
    pages = generate()
    page = pages.commands_page()
    for name in ("train", "recipe show", "study check", "watch"):
        assert f"## ofav2 {name}\n" in page
    assert "`--dry-run`" in page
    assert "| `label_smoothing` | number, at least 0, below 1 | `0.1` |" in pages.yaml_page()
    assert "| `soft_ce` |" in pages.plugins_page()


@pytest.mark.parametrize(
    ("model", "some"), [(Recipe, {"epochs", "exit_weights", "optimizer"}), (Study, {"search", "budgets", "factor"})]
)
def test_the_json_schemas_describe_every_field(model, some):
    def fields(node):
        for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else []:
            yield from fields(value)
        if isinstance(node, dict):
            yield from node.get("properties", {}).items()

    found = list(fields(json.loads(json_schema(model))))
    assert some <= {name for name, _ in found}
    assert [name for name, field in found if not field.get("description")] == []


def test_every_field_of_the_reference_is_described():
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", generate().yaml_page(), re.MULTILINE)
    assert {"exit_weights", "optimizer", "search", "searcher", "budgets", "epochs"} <= {name for name, _ in rows}
    assert [name for name, meaning in rows if not meaning.strip()] == []


def test_the_version_is_the_same_everywhere():
    citation = YAML(typ="safe").load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == ofav2_plugins.__version__
    assert importlib.metadata.version("ofav2-plugins") == ofav2_plugins.__version__


def test_every_command_has_an_example_and_every_parameter_a_description():
    group = typer.main.get_command(main.app)
    commands = [c for entry in group.commands.values() for c in getattr(entry, "commands", {"": entry}).values()]
    assert len(commands) > 15
    for command in commands:
        assert command.epilog.startswith("Example"), command.name
        assert [p.name for p in command.params if not p.help] == [], command.name


def test_the_install_page_lists_the_extras():
    rows = re.findall(r"^\| (`.*?`) \|", (ROOT / "docs/install.md").read_text(encoding="utf-8"), re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"`(.*?)`", row)]
    declared = importlib.metadata.metadata("ofav2-plugins").get_all("Provides-Extra")
    assert sorted(listed) == sorted(declared)


def test_the_page_about_plugins_has_every_namespace():
    rows = set(
        re.findall(r"^\| [a-z -]+ \| `(ofav2\.\w+)` \|", (ROOT / "docs/how-to/plugins.md").read_text(), re.MULTILINE)
    )
    assert rows == set(registry.NAMESPACES)


def test_the_readme_has_the_standalone_script():
    script = (ROOT / "examples/predict_standalone.py").read_text(encoding="utf-8")
    assert f"```python\n{script}```" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_workflows_call_commands_that_exist():
    made = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    steps = []
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        for job in YAML(typ="safe").load(path.read_text(encoding="utf-8"))["jobs"].values():
            steps += [step["run"] for step in job["steps"] if "run" in step]
    assert ".ci/run" in steps
    for step in steps:
        program, *target = step.split()
        assert (ROOT / step).exists() or (program == "make" and target[0] in made), step
