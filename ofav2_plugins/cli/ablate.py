"""Command `ofav2 ablate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import app
from .options import (
    AcceptChangesOption,
    AddressOption,
    DeviceOption,
    EnergyOption,
    ExecutorOption,
    LoggerOption,
    MemoryOption,
    OutOption,
    OverridesOption,
    PrecisionOption,
    ResumeOption,
    RootOption,
    SaveEveryOption,
    StorageOption,
    TensorBoardOption,
    ThreadsOption,
    WorkersOption,
    executor_option,
    logging_options,
    recipe_overrides,
    with_settings,
)


@app.command(epilog="Example: ofav2 ablate quick --out runs/quick --workers 2 --resume")
def ablate(
    study: Annotated[
        str, typer.Argument(help="A study that ships with the package (`ofav2 study list`), or a path to a .yaml file.")
    ],
    out: OutOption,
    root: RootOption = None,
    overrides: OverridesOption = None,
    resume: ResumeOption = False,
    accept_changes: AcceptChangesOption = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "32-true",
    threads: ThreadsOption = None,
    executor: ExecutorOption = None,
    workers: WorkersOption = None,
    memory: MemoryOption = None,
    address: AddressOption = None,
    storage: StorageOption = None,
    save_every: SaveEveryOption = 300,
    loggers: LoggerOption = None,
    tensorboard: TensorBoardOption = False,
    energy: EnergyOption = None,
) -> None:
    """Train and compare the arms of a study; writes results.json and report.html into --out."""
    from ..study.schema import load_study, study_arms
    from ..study.session import Session, SessionOptions
    from .runs import run_and_report

    loaded = load_study(study)
    given = overrides or []
    arms = study_arms(loaded, recipe_overrides(given))
    logging = logging_options(save_every, loggers, tensorboard, energy)
    chosen = executor_option(executor, given, workers=workers, memory_gib=memory, address=address, storage=storage)
    options = SessionOptions(out, resume, accept_changes, device, precision, threads, chosen, logging)
    name, dataset, baseline = Path(study).stem, with_settings(loaded.dataset, "dataset", given), loaded.baseline
    session = Session("ablate", name, arms, dataset, root, baseline, loaded.about, loaded.search)
    run_and_report(session, options)
