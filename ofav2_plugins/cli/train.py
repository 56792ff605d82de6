"""Command `ofav2 train`."""

from __future__ import annotations

from typing import Annotated

import typer

from .app import app, console
from .options import (
    AcceptChangesOption,
    DatasetOption,
    DeviceOption,
    DistillationOption,
    EnergyOption,
    InitFromOption,
    InitPartialOption,
    LoggerOption,
    OutOption,
    OverridesOption,
    PhasesOption,
    PrecisionOption,
    RecipeOption,
    ResumeOption,
    RootOption,
    SaveEveryOption,
    SeedOption,
    SupernetOption,
    TeacherOption,
    TensorBoardOption,
    ThreadsOption,
    logging_options,
    run_from_options,
    with_settings,
)


@app.command(epilog="Example: ofav2 train --supernet EE_D --teacher progressive --out runs/ee_d")
def train(
    supernet: SupernetOption,
    out: OutOption,
    recipe: RecipeOption = "quick",
    dataset: DatasetOption = "fashion-mini",
    root: RootOption = None,
    teacher: TeacherOption = None,
    distillation: DistillationOption = None,
    seed: SeedOption = 0,
    overrides: OverridesOption = None,
    phases: PhasesOption = None,
    init_from: InitFromOption = None,
    init_partial: InitPartialOption = False,
    resume: ResumeOption = False,
    accept_changes: AcceptChangesOption = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "32-true",
    threads: ThreadsOption = None,
    save_every: SaveEveryOption = 300,
    loggers: LoggerOption = None,
    tensorboard: TensorBoardOption = False,
    energy: EnergyOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Validate everything, load the data, print the plan and exit.")
    ] = False,
) -> None:
    """Train one supernet through all its phases; writes results.json and report.html into --out."""
    from ..execution.training_run import load_data
    from ..execution.trial import try_plugins
    from ..study.session import Session, SessionOptions
    from ..utils.distributed import make_fabric
    from .plan import print_plan
    from .runs import run_and_report

    given = overrides or []
    arm = run_from_options(supernet, recipe, given, teacher, distillation, phases, init_from, init_partial, seed)
    chosen = with_settings(dataset, "dataset", given)
    if dry_run:
        data = load_data(chosen, root, arm.recipe.validation_fraction)
        try_plugins(arm, data, make_fabric("cpu"))
        print_plan(arm, arm.plan(arm.start(data.n_classes)[0].space), {})
        sizes = f"{len(data.train)} training, {len(data.validation)} validation, {len(data.test)} test images"
        console.print(f"{data.name}: {data.n_classes} classes, {sizes}; nothing was trained or written", soft_wrap=True)
        return
    logging = logging_options(save_every, loggers, tensorboard, energy)
    options = SessionOptions(out, resume, accept_changes, device, precision, threads, logging=logging)
    session = Session("train", "train", [arm], chosen, root, arm.name)
    run_and_report(session, options)
