"""Command `ofav2 plan`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ..plugin import describe_reference
from .app import app, console
from .options import (
    DeviceOption,
    DistillationOption,
    InitFromOption,
    InitPartialOption,
    OverridesOption,
    PhasesOption,
    RecipeOption,
    RootOption,
    SupernetOption,
    TeacherOption,
    run_from_options,
    with_settings,
)

if TYPE_CHECKING:
    from ..training.plan import PlannedStep
    from ..training.run_config import RunConfig


@app.command(epilog="Example: ofav2 plan --supernet EE_D --recipe paper --teacher progressive")
def plan(
    supernet: SupernetOption,
    recipe: RecipeOption = "paper",
    teacher: TeacherOption = None,
    distillation: DistillationOption = None,
    overrides: OverridesOption = None,
    phases: PhasesOption = None,
    init_from: InitFromOption = None,
    init_partial: InitPartialOption = False,
    dataset: Annotated[str | None, typer.Option(help="Estimate the hours for it, from a short measurement.")] = None,
    root: RootOption = None,
    device: DeviceOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one entry a step.")] = False,
) -> None:
    """Print what a training would do: phases, unlocked values, epochs, rates, checkpoints, teachers, hours."""
    arm = run_from_options(
        supernet, recipe, overrides or [], teacher, distillation, phases, init_from, init_partial, seed=0
    )
    steps = arm.plan(arm.build(n_classes=2).space)
    hours = {} if dataset is None else _hours(arm, with_settings(dataset, "dataset", overrides or []), root, device)
    if as_json:
        entries = [step.to_dict() | ({"hours": hours[step.name]} if hours else {}) for step in steps]
        typer.echo(json.dumps(entries, indent=1))
        return
    print_plan(arm, steps, hours)


def print_plan(arm: RunConfig, steps: Sequence[PlannedStep], hours: Mapping[str, float]) -> None:
    """Print a plan as a table.

    Args:
        arm: The run.
        steps: The steps of its plan.
        hours: Estimated hours of each step; empty if they are not estimated.
    """
    columns = ("step", "unlocks", "epochs", "lr", "subnets/step", "starts from", "teacher")
    table = Table(*columns, *(["hours"] if hours else []), box=None)
    for step in steps:
        settings = step.settings
        unlocks = ", ".join(f"{dim} {list(values)}" for dim, values in step.unlocks.items()) or "(maximal network)"
        epochs = f"{settings.warmup_epochs} + {settings.epochs}" if settings.warmup_epochs else f"{settings.epochs}"
        table.add_row(
            step.name,
            unlocks,
            epochs,
            f"{settings.lr:g}",
            str(settings.subnets_per_step),
            step.starts_from or "fresh weights",
            step.teacher or "none",
            *([f"{hours[step.name]:.2f}"] if hours else []),
        )
    chosen = {"distillation": arm.recipe.distillation, "teacher": arm.recipe.teacher}
    console.print(table)
    console.print(", ".join(f"{field}: {describe_reference(value)}" for field, value in chosen.items()), markup=False)
    if hours:
        total = sum(hours.values())
        console.print(f"about {total:.1f} hours on this machine, estimated from a few batches of each step")


def _hours(arm: RunConfig, dataset: Any, root: Path | None, device: str) -> dict[str, float]:
    from ..execution.estimate import estimate_hours
    from ..execution.training_run import load_data
    from ..utils.distributed import make_fabric

    return estimate_hours(arm, load_data(dataset, root, arm.recipe.validation_fraction), make_fabric(device))
