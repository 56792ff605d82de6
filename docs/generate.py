"""Generates the reference pages that follow from the code: commands, plugins, fields of recipes and studies.

    python docs/generate.py

Writes `cli.md`, `plugins.md` and `yaml.md` into docs/reference. `make docs` calls it before mkdocs.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import click
import typer
from pydantic import BaseModel

from ofav2_plugins import registry
from ofav2_plugins.cli import main as cli
from ofav2_plugins.cli.app import WORKFLOW
from ofav2_plugins.recipes import schema as recipes
from ofav2_plugins.recipes.schema import Recipe
from ofav2_plugins.study.schema import ArmSpec, Study, StudySearch

REFERENCE = Path(__file__).parent / "reference"
PLUGIN = "a plugin with settings"


def commands_page() -> str:
    """Every command with its arguments and options."""
    lines = ["# Command line", "", "Every command takes `--debug`, which shows the traceback of an error.", ""]
    lines += ["`ofav2` alone prints the commands of a normal workflow:", "", "```text", WORKFLOW, "```"]
    for name, command in typer.main.get_command(cli.app).commands.items():
        for full, entry in group_members(name, command):
            examples = (entry.epilog or "").partition(": ")[2].split("; ")
            lines += ["", f"## ofav2 {full}", "", entry.help or "", "", "```bash", *examples, "```", ""]
            lines += parameters(entry)
    return "\n".join(lines) + "\n"


def group_members(name: str, command: click.Command) -> list[tuple[str, click.Command]]:
    """The command itself, or those of a group."""
    members = getattr(command, "commands", None)
    return [(name, command)] if members is None else [(f"{name} {sub}", entry) for sub, entry in members.items()]


def parameters(command: click.Command) -> list[str]:
    """The table of a command's parameters; nothing for a command without any."""
    rows = []
    for parameter in command.params:
        if parameter.name in ("help", "install_completion", "show_completion"):
            continue
        shown = parameter.opts[0] if parameter.param_type_name == "option" else parameter.opts[0].upper()
        note = "Required. " if parameter.required and parameter.param_type_name == "option" else ""
        help_text = (getattr(parameter, "help", None) or "").replace("|", "\\|")
        is_flag = getattr(parameter, "is_flag", False)
        no_default = parameter.required or is_flag or parameter.default is None or parameter.default == []
        default = "" if no_default else f" Default: `{parameter.default}`."
        rows.append(f"| `{shown}` | {note}{help_text}{default} |")
    return ["| parameter | meaning |", "|---|---|", *rows] if rows else []


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
                settings = "<br>".join(f"`{name}: {text}`" for name, text in row.settings.items()).replace("|", "\\|")
                lines.append(f"| `{row.name}` | {settings} | {row.summary} |")
    return "\n".join(lines) + "\n"


def yaml_page() -> str:
    """The fields of recipes and studies, their defaults, and the JSON schemas' commands."""
    lines = [
        "# Recipes and studies",
        "",
        "The fields of recipe and study files. Your editor can [complete and check them](../how-to/editor.md).",
        "A plugin is a name or a mapping `{name: ..., setting: value}`; see the [list of plugins](plugins.md).",
    ]
    models = [Recipe, recipes.StepRecipe, recipes.PhaseRecipe, recipes.ExitWeights]
    for model in [*models, recipes.Evaluation, Study, ArmSpec, StudySearch]:
        lines += ["", f"## {model.__name__}", "", *fields(model)]
    return "\n".join(lines) + "\n"


def fields(model: type[BaseModel]) -> list[str]:
    """A model's docstring and the table of its fields."""
    rows = [inspect.getdoc(model) or "", "", "| field | type | default | meaning |", "|---|---|---|---|"]
    schema = model.model_json_schema()
    schema = next((form for form in schema.get("anyOf", []) if "properties" in form), schema)
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            default = default.model_dump(exclude_none=True)
        shown = "required" if field.is_required() else "" if default is None else f"`{json.dumps(default)}`"
        kind = kind_of(schema["properties"].get(name, {}))
        rows.append(f"| `{name}` | {kind} | {shown} | {(field.description or '').replace('|', chr(92) + '|')} |")
    return rows


def kind_of(schema: dict[str, Any]) -> str:
    """The type and limits of a field, from its JSON schema."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if forms := [form for form in schema.get("anyOf", schema.get("oneOf", [])) if form.get("type") != "null"]:
        kinds = dict.fromkeys(kind_of(form) for form in forms)
        return "plugin" if PLUGIN in kinds else " or ".join(kinds)
    if schema.get("type") == "array":
        return f"list of {kind_of(schema.get('items', {}))}"
    if schema.get("type") == "object":
        is_plugin = "name" in schema.get("properties", {})
        content = schema.get("additionalProperties")
        mapping = f"mapping to {kind_of(content)}" if isinstance(content, dict) and content else "mapping"
        return PLUGIN if is_plugin else mapping
    limits = {"minimum": "at least", "exclusiveMinimum": "above", "exclusiveMaximum": "below", "maximum": "at most"}
    named = [f"{word} {schema[key]}" for key, word in limits.items() if key in schema]
    return ", ".join([schema.get("type", "any"), *named])


def main() -> None:
    """Write the pages."""
    for name, page in (("cli", commands_page()), ("plugins", plugins_page()), ("yaml", yaml_page())):
        (REFERENCE / f"{name}.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
