"""Command `ofav2 train`."""

from __future__ import annotations

from .app import app
from .options import (
    AcceptChangesOption,
    DatasetOption,
    DeviceOption,
    DistillationOption,
    EnergyOption,
    InitFromOption,
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
    run_from_options,
    with_settings,
)


@app.command()
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
    resume: ResumeOption = False,
    accept_changes: AcceptChangesOption = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "32-true",
    threads: ThreadsOption = None,
    save_every: SaveEveryOption = 300,
    tensorboard: TensorBoardOption = False,
    energy: EnergyOption = None,
) -> None:
    """Train one supernet through all its phases; writes results.json and report.html into --out."""
    from ..study.session import Session, SessionOptions
    from ..training.context import LoggingOptions
    from .runs import run_and_report

    given = overrides or []
    arm = run_from_options(supernet, recipe, given, teacher, distillation, phases, init_from, seed)
    logging = LoggingOptions(save_every, tensorboard, energy)
    options = SessionOptions(out, resume, accept_changes, device, precision, threads, logging=logging)
    session = Session("train", "train", [arm], with_settings(dataset, "dataset", given), root, arm.name)
    run_and_report(session, options)
