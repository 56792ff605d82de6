"""What is wrong with an environment, a dataset or a run folder, and how to mend it."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lightning_fabric import Fabric
from packaging.requirements import Requirement

from .errors import UserError
from .execution.provenance import current_provenance
from .execution.run_folder import difference
from .execution.training_run import TRAINED, load_data, read_trained
from .registry import describe
from .study.results import RESULTS, load_results
from .training.checkpoints import StepFiles
from .utils.files import read_json
from .utils.tensor_files import load_checkpoint


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `problem` says what is wrong and how to mend it, None that all is well."""

    what: str
    found: str
    problem: str | None = None


def examine(dataset: str | None, root: Path | None, run: Path | None, fabric: Fabric) -> Iterator[Finding]:
    """Look at the environment, and at a dataset and a run folder where they are given.

    Args:
        dataset: A plugin of `ofav2.datasets`.
        root: Where it is.
        run: The folder of a run.
        fabric: The device.
    """
    yield _device(fabric)
    yield from _requirements()
    yield _checked("upstream patches", _patches)
    for row in describe():
        if row.problem:
            yield Finding(f"plugin {row.name}", row.distribution, f"{row.problem}; mend or uninstall it")
    yield Finding("plugins", f"{len(describe())} registered")
    yield _cache()
    if dataset is not None:
        yield _checked(f"dataset {dataset}", lambda: _dataset(dataset, root))
    if run is not None:
        yield from _run(run, fabric)


def _checked(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, look())
    except Exception as error:
        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        return Finding(what, "", text)


def _device(fabric: Fabric) -> Finding:
    import torch

    return Finding("device", f"{fabric.device}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads")


def _requirements() -> Iterator[Finding]:
    """Every declared requirement, against what is installed."""
    for text in importlib.metadata.requires("ofav2-plugins") or []:
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        mend = f"pip install '{needed.name}{needed.specifier}'"
        try:
            version = importlib.metadata.version(needed.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(needed.name, "not installed", mend)
            continue
        wrong = not needed.specifier.contains(version, prereleases=True)
        yield Finding(needed.name, version, f"must be {needed.specifier}: {mend}" if wrong else None)


def _patches() -> str:
    import upstream_patches

    from . import upstream  # noqa: F401 - applies them

    needed = [patch.name for patch in upstream_patches.patches() if patch.module.needed()]
    return f"{len(needed)} needed by this ofa, all applied"


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
    """The mark of a run, every step's files, and parts that a killed process has left."""
    try:
        mark = read_json(run / "run.json")
        held = mark["provenance"]
    except (UserError, KeyError, TypeError) as error:
        yield Finding(f"run {run}", "", f"{error}; is it the folder of a run?")
        return
    other = difference(held, {name: current_provenance(fabric).get(name) for name in held})
    yield Finding(
        f"run {run}",
        f"of `ofav2 {mark.get('kind')}`",
        f"begun otherwise: {other}; go back to what it was, or resume with --accept-changes" if other else None,
    )
    for folder in sorted((run / "steps").glob("*")):
        yield _step(folder)
    if (run / RESULTS).exists():
        yield _checked(RESULTS, lambda: f"{len(load_results(run / RESULTS)['rows'])} rows")
    for part in sorted(run.rglob(".*.tmp")):
        writer = part.name.split(".")[-2]  # .<file>.<process>.tmp
        if writer.isdigit() and _is_running(int(writer)):
            continue
        yield Finding(str(part), "part of a file", f"left by a killed process; remove it: rm {part}")


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError, OverflowError):
        return False
    return True


def _step(folder: Path) -> Finding:
    files = StepFiles(folder, say=lambda text: None)
    problems = []
    done = (folder / TRAINED).exists()
    looks: list[tuple[Path, Callable[[], object]]] = [
        (files.best, files.load_best),
        (files.state, lambda: load_checkpoint(files.state)),
        (files.previous, lambda: load_checkpoint(files.previous)),
        (folder / TRAINED, lambda: read_trained(folder)),
    ]
    for path, look in looks:
        if path.exists() or (done and path == files.best):
            try:
                look()
            except UserError as error:
                problems.append(str(error))
    mend = "; --resume falls back to what is whole and trains the rest again"
    state = "trained" if done else "in training" if files.state.exists() else "begun"
    return Finding(f"step {folder.name}", state, "; ".join(problems) + mend if problems else None)
