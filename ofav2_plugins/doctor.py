"""Finds problems of an environment, a dataset or a run folder, and describes how to fix them."""

from __future__ import annotations

import importlib.metadata
import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from lightning_fabric import Fabric
from packaging.requirements import Requirement

from .deploy.finetune import FINETUNED, finetuned_networks
from .errors import RunError, UserError
from .execution.provenance import current_provenance
from .execution.records import FINAL, MEASURED, TRAINED, metrics_differ, read_measured, read_trained
from .execution.run_folder import RUN_FILE, difference, read_run_file
from .execution.training_run import load_data
from .loggers.jsonl import METRICS, read_metrics
from .registry import describe, explain, title
from .search.results import SEARCHED, arch_file, arch_record, read_search
from .search.samples import SAMPLES
from .search.session import CANDIDATES
from .study.results import RESULTS, load_results
from .training.checkpoints import StepFiles
from .utils.files import read_record
from .utils.json_lines import damaged_lines
from .utils.tensor_files import load_checkpoint

OWN = "ofav2-plugins"
"""The distribution of this package."""


@dataclass(frozen=True)
class Finding:
    """One check; `problem` describes the problem and its fix, or is None."""

    what: str
    found: str
    problem: str | None = None


def examine(dataset: str | None, root: Path | None, run: Path | None, fabric: Fabric) -> Iterator[Finding]:
    """Check the environment, and a dataset and a run folder if they are given.

    Args:
        dataset: A plugin of `ofav2.datasets`.
        root: Its folder.
        run: The folder of a run.
        fabric: The device.
    """
    yield _device(fabric)
    yield from _requirements()
    yield _checked("upstream patches", _patches)
    yield from _plugins()
    yield _cache()
    if dataset is not None:
        yield _checked(f"dataset {dataset}", lambda: _dataset(dataset, root))
    if run is not None:
        yield from _run(run, fabric)


def _checked(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, look())
    except Exception as error:
        return Finding(what, "", explain(error))


def _device(fabric: Fabric) -> Finding:
    import torch

    return Finding("device", f"{fabric.device}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads")


def _requirements() -> Iterator[Finding]:
    """Every declared requirement, compared with the installed version."""
    for text in importlib.metadata.requires(OWN) or []:
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        remedy = f"pip install '{needed.name}{needed.specifier}'"
        try:
            version = importlib.metadata.version(needed.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(needed.name, "not installed", remedy)
            continue
        wrong = not needed.specifier.contains(version, prereleases=True)
        yield Finding(needed.name, version, f"must be {needed.specifier}: {remedy}" if wrong else None)


def _patches() -> str:
    import upstream_patches

    from . import upstream  # noqa: F401 - applies them

    patches = upstream_patches.patches()
    if missing := [patch.name for patch in patches if patch.module.needed()]:
        raise UserError(f"{', '.join(missing)} could not be applied to this version of ofa")
    return f"{len(patches)} known; all that ofa {importlib.metadata.version('ofa')} needs are applied"


def _plugins() -> Iterator[Finding]:
    """Plugins that do not load, and those of other distributions that break their contract."""
    from .testing import check_plugin

    rows = describe()
    for row in rows:
        what, problem = f"plugin {row.name}", row.problem
        if problem is None and row.distribution != OWN:
            try:
                check_plugin(row.namespace, row.name)
            except AssertionError as error:
                problem = f"{title(row.namespace, row.name)}: {error}"
            except UserError as error:
                problem = str(error)
        if problem:
            yield Finding(what, row.distribution, f"{problem}; fix or uninstall it")
    yield Finding("plugins", f"{len(rows)} registered")


def _cache() -> Finding:
    from .data.decode import cache_folder
    from .data.fetch import free_bytes

    folder = cache_folder()
    free = free_bytes(folder)
    problem = "less than 1 GiB is free: make room, or set $OFAV2_CACHE to another disk" if free < 2**30 else None
    return Finding("image cache", f"{folder}, {free / 2**30:.0f} GiB free", problem)


def _dataset(dataset: str, root: Path | None) -> str:
    data = load_data(dataset, root, validation_fraction=0.15)
    return (
        f"{data.n_classes} classes, {len(data.train)} training, {len(data.validation)} validation, "
        f"{len(data.test)} test images"
    )


def _run(run: Path, fabric: Fabric) -> Iterator[Finding]:
    """The run file, the files of every step, the results, and partial files left by a killed process."""
    try:
        file = read_run_file(run)
    except RunError as error:
        yield Finding(f"run {run}", "", f"{error}; is it the folder of a run?")
        return
    provenance = file["provenance"]
    other = difference(provenance, {name: current_provenance(fabric).get(name) for name in provenance})
    yield Finding(
        f"run {run}",
        f"of `ofav2 {file['kind']}`",
        f"started differently: {other}; restore the earlier value, or resume with --accept-changes" if other else None,
    )
    for folder in sorted((run / "steps").glob("*")):
        yield _step(folder)
    if (run / RESULTS).exists():
        yield _checked(RESULTS, lambda: _results(run))
    if file["kind"] == "finetune" and (run / FINETUNED).exists():
        yield _checked(FINETUNED, lambda: _finetuned(run))
    for search in (
        [run] if file["kind"] == "search" else sorted(path.parent for path in run.glob(f"search/*/{RUN_FILE}"))
    ):
        yield from _search(search)
    for part in sorted(run.rglob(".*.tmp")):
        writer = part.name.split(".")[-2]  # .<file>.<process>.tmp
        if writer.isdigit() and _is_running(int(writer)):
            continue
        yield Finding(str(part), "partial file", f"left by a killed process; remove it: rm {shlex.quote(str(part))}")


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError, OverflowError):
        return False
    return True


def _results(run: Path) -> str:
    def no_digest(problem: str) -> NoReturn:
        raise RunError(f"{problem}; --resume rebuilds it from the finished steps")

    return f"{len(load_results(run, no_digest)['rows'])} rows"


def _finetuned(run: Path) -> str:
    try:
        return f"{finetuned_networks(run)[2]['top1']:.2f} % on the test images"
    except RunError as error:
        raise RunError(f"{error}; --resume writes it again") from error


def _search(folder: Path) -> Iterator[Finding]:
    """The files of a search: measurements, search.json, and the architectures of the front."""
    for name in (SAMPLES, CANDIDATES):
        damaged = damaged_lines(folder / name)
        found = f"{damaged} damaged {'line' if damaged == 1 else 'lines'}"
        yield Finding(str(folder / name), found, "--resume measures them again" if damaged else None)
    if (folder / SEARCHED).exists():
        yield _checked(str(folder / SEARCHED), lambda: _search_files(folder))


def _search_files(folder: Path) -> str:
    remedy = "--resume writes it again"
    try:
        front = read_search(folder)["front"]
        for number, row in enumerate(front):
            path = arch_file(folder, number)
            if read_record(path) != arch_record(row):
                raise RunError(f"{path} is not the architecture {number} of {SEARCHED}")
    except RunError as error:
        raise RunError(f"{error}; {remedy}") from error
    return f"{len(front)} architectures"


def _step(folder: Path) -> Finding:
    files = StepFiles(folder, say=lambda text: None)
    trained = (folder / TRAINED).exists()
    checks: dict[Path, Callable[[], object]] = {
        files.best: files.load_best,
        files.state: lambda: load_checkpoint(files.state),
        files.previous: lambda: load_checkpoint(files.previous),
        folder / TRAINED: lambda: read_trained(folder),
        folder / MEASURED: lambda: read_measured(folder),
        folder / FINAL: lambda: read_measured(folder, FINAL),
        folder / METRICS: lambda: _metrics(folder),
    }
    required = (files.best, folder / TRAINED, folder / METRICS) if trained else ()
    problems = []
    for path, check in checks.items():
        if path.exists() or path in required:
            try:
                check()
            except UserError as error:
                problems.append(str(error))
    remedy = "; --resume falls back to undamaged files, and recomputes lost results"
    state = "trained" if trained else "in training" if files.state.exists() else "begun"
    return Finding(f"step {folder.name}", state, "; ".join(problems) + remedy if problems else None)


def _metrics(folder: Path) -> None:
    """Raise RunError if metrics.jsonl is damaged or differs from the record of a finished step."""
    metrics = read_metrics(folder / METRICS)
    different = (folder / TRAINED).exists() and metrics_differ(folder, read_trained(folder)["history"])
    if metrics is None or different:
        raise RunError(f"{folder / METRICS} is missing, damaged, or not what {TRAINED} records")
