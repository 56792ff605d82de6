"""Commands `ofav2 recipe` and `ofav2 study`: show, describe and check the YAML files of trainings and comparisons."""

from __future__ import annotations

import io
import json
from typing import Annotated

import typer
from pydantic import BaseModel

from .app import app, console
from .options import OverridesOption, recipe_overrides

recipe_app = typer.Typer(no_args_is_help=True, help="Recipes: list, show, JSON schema.")
study_app = typer.Typer(no_args_is_help=True, help="Studies: list, check, JSON schema.")
app.add_typer(recipe_app, name="recipe")
app.add_typer(study_app, name="study")


def json_schema(model: type[BaseModel]) -> str:
    """The JSON schema (draft 2020-12) of a model, for editors that complete and check YAML files."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
    return json.dumps(schema, indent=1)


@recipe_app.command("list", epilog="Example: ofav2 recipe list")
def list_recipes() -> None:
    """List the recipes that ship with the package."""
    from ..recipes.schema import load_recipe, recipe_names

    for name in recipe_names():
        console.print(f"{name}: {load_recipe(name, load_plugins=False).description}", soft_wrap=True)


@recipe_app.command(
    "show", epilog="Examples: ofav2 recipe show paper; ofav2 recipe show quick --set width_mult=1.0 > mine.yaml"
)
def show_recipe(
    name: Annotated[str, typer.Argument(help="A recipe that ships with the package, or a path to a .yaml file.")],
    overrides: OverridesOption = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of recipes instead.")] = False,
) -> None:
    """Print a recipe with its defaults and overrides as YAML, after validating it."""
    from ruamel.yaml import YAML

    from ..recipes.schema import Recipe, load_recipe

    if schema:
        typer.echo(json_schema(Recipe))
        return
    text = io.StringIO()
    yaml = YAML(typ="safe")
    yaml.default_flow_style, yaml.sort_base_mapping_type_on_output = None, False  # type: ignore[assignment]
    yaml.dump(load_recipe(name, recipe_overrides(overrides or [])).model_dump(exclude_none=True), text)
    typer.echo(text.getvalue(), nl=False)


@study_app.command("list", epilog="Example: ofav2 study list")
def list_studies() -> None:
    """List the studies that ship with the package."""
    from ..study.schema import load_study, study_names

    for name in study_names():
        console.print(f"{name}: {load_study(name).description}", soft_wrap=True)


@study_app.command("check", epilog="Example: ofav2 study check mine.yaml")
def check_study(
    study: Annotated[str, typer.Argument(help="A path to a .yaml file, or a study that ships with the package.")],
    overrides: OverridesOption = None,
) -> None:
    """Validate a study: its fields, its recipe, each plugin with its settings, and the plan of each arm."""
    from ..study.schema import load_study, study_arms

    loaded = load_study(study)
    for run in study_arms(loaded, recipe_overrides(overrides or [])):
        plan = run.plan(run.build(n_classes=2).space)
        console.print(f"{run.name}, seed {run.seed}: {', '.join(step.name for step in plan)}", soft_wrap=True)
    console.print(f"{study} is valid: {len(loaded.arms)} arms, baseline {loaded.baseline}", soft_wrap=True)


@study_app.command("schema", epilog="Example: ofav2 study schema > study.schema.json")
def study_schema() -> None:
    """Print the JSON schema of studies."""
    from ..study.schema import Study

    typer.echo(json_schema(Study))
