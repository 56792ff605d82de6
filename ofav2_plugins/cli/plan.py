"""Command `ofav2 plan`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..errors import UserError
from ..plugin import describe_reference
from ..utils.progress import duration, say
from .app import app, console
from .options import (
    SUPERNET,
    DeviceOption,
    DistillationOption,
    InitFromOption,
    InitPartialOption,
    OverridesOption,
    PhasesOption,
    RecipeOption,
    RootOption,
    TeacherOption,
    recipe_overrides,
    run_from_options,
    with_settings,
)

if TYPE_CHECKING:
    from ..training.plan import PlannedStep
    from ..training.run_config import RunConfig


@app.command(epilog="Example: ofav2 plan --supernet EE_D --recipe paper --teacher progressive")
def plan(
    supernet: Annotated[str | None, SUPERNET] = None,
    study: Annotated[str | None, typer.Option(help="Plan every arm of this study instead of one supernet.")] = None,
    recipe: RecipeOption = "quick",
    teacher: TeacherOption = None,
    distillation: DistillationOption = None,
    overrides: OverridesOption = None,
    phases: PhasesOption = None,
    init_from: InitFromOption = None,
    init_partial: InitPartialOption = False,
    dataset: Annotated[
        str | None, typer.Option(help="Estimate the hours on this dataset from a short measurement.")
    ] = None,
    root: RootOption = None,
    device: DeviceOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one entry per step.")] = False,
) -> None:
    """Print what a training would do: phases, unlocked values, epochs, rates, checkpoints, teachers, hours."""
    if (supernet is None) == (study is None):
        raise UserError("plan needs either --supernet or --study, one of them")
    given = overrides or []
    if study is not None:
        own = {"teacher": teacher, "distillation": distillation, "phases": phases, "init-from": init_from}
        if wrong := [name for name, value in own.items() if value is not None]:
            raise UserError(f"--{wrong[0]} cannot be combined with --study: the arms of a study define it")
        arms = _arms(study, given)
    else:
        arms = [
            run_from_options(
                str(supernet), recipe, given, teacher, distillation, phases, init_from, init_partial, seed=0
            )
        ]
    chosen = None if dataset is None else with_settings(dataset, "dataset", given)
    planned = [(arm, *_planned(arm, chosen, root, device)) for arm in arms]
    if as_json:
        entries = {arm.name: _entries(arm, steps, hours) for arm, steps, hours in planned}
        typer.echo(json.dumps(entries if study is not None else next(iter(entries.values())), indent=1))
        return
    for arm, steps, hours in planned:
        if study is not None:
            console.print(f"arm {arm.name}", style="bold", soft_wrap=True)
        print_plan(arm, steps, hours)


def _arms(study: str, overrides: Sequence[str]) -> list[RunConfig]:
    """Each arm of a study once, with its first seed."""
    from ..study.schema import load_study, study_arms

    arms: dict[str, RunConfig] = {}
    for run in study_arms(load_study(study), recipe_overrides(overrides)):
        arms.setdefault(run.name, run)
    return list(arms.values())


def _planned(
    arm: RunConfig, dataset: Any, root: Path | None, device: str
) -> tuple[list[PlannedStep], dict[str, float]]:
    """The steps of a run, after all checks that `train` performs, and their hours if a dataset is given."""
    from ..execution.estimate import estimate_hours
    from ..execution.training_run import TrainingRun, load_data
    from ..execution.trial import noise_data, try_plugins
    from ..utils.distributed import make_fabric

    fabric = make_fabric(device)
    data = noise_data(arm) if dataset is None else load_data(dataset, root, arm.recipe.validation_fraction)
    run = TrainingRun(arm, data, Path("steps"), fabric)
    try_plugins(arm, data, fabric)
    for note in run.notes:
        say(Console(stderr=True), f"{arm.name}: {note}", "yellow")
    return run.plan, {} if dataset is None else estimate_hours(arm, data, fabric)


def _entries(arm: RunConfig, steps: Sequence[PlannedStep], hours: Mapping[str, float]) -> list[dict[str, Any]]:
    changes = {"plugins": found} if (found := arm.recipe.plugin_changes()) else {}
    return [step.to_dict() | ({"hours": hours[step.name]} if hours else {}) | changes for step in steps]


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
            *([f"{hours[step.name]:.3g}"] if hours else []),
        )
    recipe = arm.recipe
    chosen = {"distillation": recipe.distillation, "teacher": recipe.teacher, "optimizer": recipe.optimizer}
    parts = [f"{field}: {describe_reference(value)}" for field, value in chosen.items()]
    parts += [f"augmentation: {' + '.join(map(describe_reference, recipe.augmentations)) or 'none'}"]
    console.print(table)
    console.print(", ".join(parts), markup=False, soft_wrap=True)
    if hours:
        total = sum(hours.values())
        console.print(f"about {duration(3600 * total)} on this machine, estimated from a few batches of each step")
