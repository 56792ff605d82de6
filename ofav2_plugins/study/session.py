"""One call of `ofav2 train` or `ofav2 ablate`: loads the data, opens the run folder, executes the runs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console

from .. import registry
from ..data.base import DataSplits
from ..errors import UserError
from ..execution.provenance import current_provenance
from ..execution.run_folder import locked, open_run_folder
from ..execution.threads import set_threads
from ..execution.training_run import TrainingRun, load_data
from ..execution.trial import try_runs
from ..executors.base import Executor, RunSetup
from ..plugin import describe_reference, to_reference
from ..search.command import SearchCall
from ..training.context import LoggingOptions, RunContext
from ..training.run_config import RunConfig
from ..utils.distributed import make_fabric
from ..utils.files import content_digest
from ..utils.memory import keep_freed_memory
from ..utils.progress import Reporter, say
from ..utils.signals import stop_on_signals
from .arm_search import CheckedSearch, check_search, search_runs
from .results_writer import StudyResults
from .schema import StudySearch


@dataclass(frozen=True)
class SessionOptions:
    """Where and how runs are executed. Their results do not depend on these options.

    Args:
        out: The run folder.
        resume: Continue the run in `out`.
        accept_changes: Resume even if the code or the device has changed.
        device: "auto", "cpu", "cuda" or "mps".
        precision: "32-true", "bf16-mixed" or "16-mixed".
        threads: CPU threads of torch in each worker; None lets the executor choose, see `set_threads`.
        executor: A plugin of `ofav2.executors`.
        logging: Checkpoint interval, TensorBoard, energy.
    """

    out: Path
    resume: bool = False
    accept_changes: bool = False
    device: str = "auto"
    precision: str = "32-true"
    threads: int | None = None
    executor: Any = "serial"
    logging: LoggingOptions = field(default_factory=LoggingOptions)


@dataclass(frozen=True)
class Session:
    """The work of a session: all inputs of its results, and texts for the report.

    Args:
        kind: "train" or "ablate".
        name: Name of the study, for the report.
        arms: The runs: each arm with each of its seeds.
        dataset: A plugin of `ofav2.datasets`.
        root: The folder of the dataset.
        baseline: The arm that the others are compared with.
        about: "description" of the study, and "factors" (arm -> its difference from the baseline), for the report.
        search: Settings for searching every run after its last step; None for no search.
    """

    kind: str
    name: str
    arms: Sequence[RunConfig]
    dataset: Any
    root: Path | None
    baseline: str
    about: Mapping[str, Any] = field(default_factory=dict)
    search: StudySearch | None = None

    def study(self) -> dict[str, Any]:
        """The description of the study in the results and the report."""
        return {
            "name": self.name,
            "baseline": self.baseline,
            "dataset": describe_reference(self.dataset),
            "recipes": {arm.name: arm.recipe.model_dump() for arm in self.arms},
            "command": "ofav2 " + shlex.join(sys.argv[1:]),
            **self.about,
        }

    def identity(self, data: DataSplits) -> dict[str, Any]:
        """The settings that must be the same when a run is resumed."""
        return {
            "runs": {f"{arm.name} (seed {arm.seed})": arm.to_dict() for arm in self.arms},
            "dataset": to_reference(self.dataset),
            "data": data.fingerprint,
        }

    def details(self, data: DataSplits, runs: Sequence[TrainingRun]) -> dict[str, Any]:
        """Additional fields for `open_run` and `ofav2 watch`: data folder, step folders, planned epochs."""
        return {
            "root": str(self.root.resolve()) if self.root else None,
            "n_classes": data.n_classes,
            "steps": [{name: folder.name for name, folder in run.folders.items()} for run in runs],
            "epochs": [
                {step.name: step.settings.epochs + step.settings.warmup_epochs for step in run.plan} for run in runs
            ],
        }


def run_session(session: Session, options: SessionOptions, console: Console) -> StudyResults:
    """Execute the runs of a session; returns their results, which are also written to results.json.

    Args:
        session: The runs and their data.
        options: The execution options.
        console: Shows the progress; only the first of several processes prints.

    Raises:
        UserError: The options are wrong, the data are missing or damaged, or the folder contains other files.
        KeyboardInterrupt: The user stopped the session; all finished work is saved.
    """
    keep_freed_memory()
    executor: Executor = registry.load(registry.EXECUTORS, options.executor)
    with closing(executor):
        executor.check()
        return _run(session, options, executor, console)


def _run(session: Session, options: SessionOptions, executor: Executor, console: Console) -> StudyResults:
    if executor.in_process:
        set_threads(options.threads, options.out, console)
    else:
        torch.set_num_threads(options.threads or executor.threads(torch.get_num_threads()))
    options.logging.check()
    setup = _run_setup(session, options, executor)
    # With a remote executor, this process only plans: the runs' device and precision need not exist on this machine.
    fabric = make_fabric("cpu") if executor.remote else make_fabric(setup.device, setup.precision)
    _check_processes(executor, fabric)
    first, out = fabric.is_global_zero, options.out
    console.quiet = not first
    with fabric.rank_zero_first(local=True):  # one process per machine decodes the images
        data = load_data(session.dataset, session.root, session.arms[0].recipe.validation_fraction)
    runs = _runs(session, data, out / "steps", fabric)
    try_runs(runs)
    checked = _checked_search(session, runs, data, fabric)
    resume = options.resume or not first
    with fabric.rank_zero_first():
        resumed = open_run_folder(
            out,
            session.kind,
            session.identity(data),
            _provenance(setup, executor, fabric),
            resume,
            options.accept_changes,
            session.details(data, runs),
        )
    if options.resume and not resumed:
        say(console, f"{out} contains no run yet: nothing to resume, so it starts from the beginning", "yellow")
    _announce(session, data, runs, out, console)
    with ExitStack() as execution:
        if first:
            execution.enter_context(locked(out))
        stop = execution.enter_context(stop_on_signals(lambda text: say(console, text, "yellow")))
        reporter = execution.enter_context(Reporter(console, sum(run.work() for run in runs)))
        identity = {"identity": content_digest(session.identity(data))}
        study = session.study() | identity | ({"search": checked.settings.identity()} if checked else {})
        results = StudyResults(runs, out, fabric, study, reporter, measured_elsewhere=executor.remote)
        execution.callback(results.write)
        executor.execute(runs, results, RunContext(reporter, stop, options.logging), setup)
    if checked is not None:
        with locked(out):
            search_runs(_search_call(session, options, executor), checked, results, console)
    return results


def _check_processes(executor: Executor, fabric: Fabric) -> None:
    """Raise UserError if there are several ranks and the executor starts workers of its own."""
    if fabric.world_size > 1 and not executor.in_process:
        raise UserError(
            f"--executor {executor.name} executes runs in parallel, torchrun executes one run in several processes: "
            "use only one of them"
        )


def _provenance(setup: RunSetup, executor: Executor, fabric: Fabric) -> dict[str, str]:
    """The provenance of the runs, with the device and precision of the workers."""
    own = current_provenance(fabric)
    return {**own, "device": setup.device, "precision": setup.precision} if executor.remote else own


def _checked_search(
    session: Session, runs: Sequence[TrainingRun], data: DataSplits, fabric: Fabric
) -> CheckedSearch | None:
    if session.search is None:
        return None
    if fabric.world_size > 1:
        raise UserError(
            "a study with a search section must run in one process, but got several by torchrun; remove the section "
            "and search the runs later with `ofav2 search`, or use --workers"
        )
    return check_search(session.search, runs, session.baseline, data)


def _search_call(session: Session, options: SessionOptions, executor: Executor) -> SearchCall:
    return SearchCall(
        run=options.out,
        out=options.out / "search",
        root=session.root,
        accept_changes=options.accept_changes,
        executor=options.executor if executor.measures else "serial",
        device=options.device,
        threads=options.threads,
    )


def _runs(session: Session, data: DataSplits, steps_folder: Path, fabric: Fabric) -> list[TrainingRun]:
    runs = []
    for arm in session.arms:
        try:
            runs.append(TrainingRun(arm, data, steps_folder, fabric))
        except UserError as error:
            if len(session.arms) == 1:
                raise
            raise type(error)(f"arm {arm.name!r}: {error}") from error
    return runs


def _announce(session: Session, data: DataSplits, runs: Sequence[TrainingRun], out: Path, console: Console) -> None:
    sizes = f"{len(data.train)} training, {len(data.validation)} validation, {len(data.test)} test images"
    name = describe_reference(session.dataset)
    say(console, f"{name}: {data.n_classes} classes, {sizes}; {len(runs)} run(s); results in {out}")
    for run in runs:
        for note in run.notes:
            say(console, f"{run.config.name}: {note}")


def _run_setup(session: Session, options: SessionOptions, executor: Executor) -> RunSetup:
    return RunSetup(
        dataset=session.dataset,
        root=session.root,
        out=options.out,
        device=executor.device(options.device),
        precision=options.precision,
        threads=torch.get_num_threads(),
        logging=options.logging,
    )
