"""Generates the reference pages that follow from the code: commands, plugins, fields of recipes and studies.

    python docs/generate.py

Writes `cli.md`, `plugins.md` and `yaml.md` into docs/reference. `make docs` calls it before mkdocs.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import click
import typer
from pydantic import BaseModel

from ofav2_plugins import registry
from ofav2_plugins.cli import main as cli
from ofav2_plugins.recipes import schema as recipes
from ofav2_plugins.recipes.schema import Recipe
from ofav2_plugins.study.schema import ArmSpec, Study, StudySearch

REFERENCE = Path(__file__).parent / "reference"


def commands_page() -> str:
    """Every command with its arguments and options."""
    lines = ["# Command line", "", "Every command takes `--debug`, which shows the traceback of an error."]
    for name, command in typer.main.get_command(cli.app).commands.items():
        for full, entry in group_members(name, command):
            lines += ["", f"## ofav2 {full}", "", entry.help or "", "", entry.epilog or "", "", *parameters(entry)]
    return "\n".join(lines) + "\n"


def group_members(name: str, command: click.Command) -> list[tuple[str, click.Command]]:
    """The command itself, or those of a group."""
    members = getattr(command, "commands", None)
    return [(name, command)] if members is None else [(f"{name} {sub}", entry) for sub, entry in members.items()]


def parameters(command: click.Command) -> list[str]:
    """The table of a command's parameters."""
    rows = ["| parameter | default | meaning |", "|---|---|---|"]
    for parameter in command.params:
        if parameter.name in ("help", "install_completion", "show_completion"):
            continue
        shown = parameter.opts[0] if parameter.param_type_name == "option" else parameter.opts[0].upper()
        default = "required" if parameter.required else parameter.default
        shown_default = "" if default is None or default == [] else f"`{default}`"
        help_text = (getattr(parameter, "help", None) or "").replace("|", "\\|")
        rows.append(f"| `{shown}` | {shown_default} | {help_text} |")
    return rows


def plugins_page() -> str:
    """Every registered plugin of this distribution with its settings."""
    lines = ["# Plugins", "", "The plugins of this package. `ofav2 plugins` lists the installed ones."]
    for namespace in registry.NAMESPACES:
        contract = registry.contract_of(namespace)
        summary = (inspect.getdoc(contract) or "").partition("\n")[0]
        lines += ["", f"## {namespace}", "", f"Contract: `{contract.__module__}.{contract.__name__}`. {summary}"]
        lines += ["", "| name | settings | summary |", "|---|---|---|"]
        for row in registry.describe():
            if row.namespace == namespace and row.distribution == "ofav2-plugins":
                settings = ", ".join(f"`{name}: {text}`" for name, text in row.settings.items()).replace("|", "\\|")
                lines.append(f"| `{row.name}` | {settings} | {row.summary} |")
    return "\n".join(lines) + "\n"


def yaml_page() -> str:
    """The fields of recipes and studies, their defaults, and the JSON schemas' commands."""
    lines = [
        "# Recipes and studies",
        "",
        "`ofav2 recipe show NAME --schema` and `ofav2 study schema` print JSON schemas, which editors use to complete",
        "and check files: write the schema to a file and start the YAML file with",
        "`# yaml-language-server: $schema=recipe.schema.json`.",
    ]
    models = [Recipe, recipes.StepRecipe, recipes.PhaseRecipe, recipes.ExitWeights]
    for model in [*models, recipes.Evaluation, Study, ArmSpec, StudySearch]:
        lines += ["", f"## {model.__name__}", "", *fields(model)]
    return "\n".join(lines) + "\n"


def fields(model: type[BaseModel]) -> list[str]:
    """A model's docstring and the table of its fields."""
    rows = [inspect.getdoc(model) or "", "", "| field | default |", "|---|---|"]
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            default = default.model_dump()
        rows.append(f"| `{name}` | {'required' if field.is_required() else f'`{json.dumps(default)}`'} |")
    return rows


def main() -> None:
    """Write the pages."""
    for name, page in (("cli", commands_page()), ("plugins", plugins_page()), ("yaml", yaml_page())):
        (REFERENCE / f"{name}.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
