"""The progress of runs, read from the files of their folders. Does not import torch or write files.

The training process writes its files atomically, so they can be read at any time, even from another machine that
shares the folder.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..loggers.jsonl import METRICS, read_metrics
from ..utils.files import read_record
from .records import FINAL, MEASURED, TRAINED, read_measured, read_trained

RUN_FILE, RESULTS = "run.json", "results.json"


@dataclass(frozen=True)
class RunProgress:
    """The progress of one run (one arm with one seed).

    Args:
        folder: The run folder.
        arm: Name of the arm.
        seed: Seed of the run.
        state: "waiting", "training", "measuring", "finished", "failed" or "damaged".
        step: The current step; None if the run is finished.
        epoch: Finished epochs of the current step.
        epochs: Epochs of the current step, warm-up included; None if the run is finished.
        done: Finished steps.
        steps: All steps.
        val_top1: Validation top-1 (%) after the newest epoch.
        top1: Test top-1 (%) of the subnet that is best on validation, after the last measured step.
        left_seconds: Estimated remaining training time; None if it is unknown.
        idle_seconds: Time since the newest file of the current step was written.
        problem: Why the run failed, or which file is damaged.
    """

    folder: Path
    arm: str
    seed: int | None
    state: str
    step: str | None = None
    epoch: int = 0
    epochs: int | None = None
    done: int = 0
    steps: int = 0
    val_top1: float | None = None
    top1: float | None = None
    left_seconds: float | None = None
    idle_seconds: float | None = None
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As a JSON-able dict."""
        return {**asdict(self), "folder": str(self.folder)}


def run_folders(path: Path) -> list[Path]:
    """The run folders in `path`: itself, or its direct subfolders that contain a run.json.

    Raises:
        RunError: `path` is not a folder.
    """
    if not path.is_dir():
        raise RunError(f"{path} is not a folder; give a run folder or a folder that contains run folders")
    found = [path] if (path / RUN_FILE).exists() else []
    return found + sorted(child.parent for child in path.glob(f"*/{RUN_FILE}"))


def progress_of(folder: Path) -> list[RunProgress]:
    """The progress of every run in a run folder; damaged files are reported in `problem`, not raised.

    The result is empty for the folder of another command, such as a search.
    """
    try:
        content = read_record(folder / RUN_FILE)
        if content["kind"] not in ("train", "ablate"):
            return []
        runs = list(content["settings"]["runs"].values())
        details, errors = content["details"], _errors(folder)
        return [
            _progress(folder, run, names, epochs, errors.get((run["arm"], run["seed"])))
            for run, names, epochs in zip(runs, details["steps"], details["epochs"], strict=True)
        ]
    except (RunError, KeyError, TypeError, AttributeError, ValueError) as error:
        reason = str(error) if isinstance(error, RunError) else f"{folder / RUN_FILE} is of another version"
        return [RunProgress(folder, "?", None, "damaged", problem=reason)]


def _errors(folder: Path) -> dict[tuple[str, int], str]:
    if not (folder / RESULTS).exists():
        return {}
    rows = read_record(folder / RESULTS)["rows"]
    return {(row["arm"], row["seed"]): row["error"] for row in rows if "error" in row}


def _progress(
    folder: Path, run: Mapping[str, Any], steps: Mapping[str, str], planned: Mapping[str, int], error: str | None
) -> RunProgress:
    folders = {step: folder / "steps" / name for step, name in steps.items()}
    history = {step: _history(path) for step, path in folders.items()}
    records = {step: FINAL if step == list(steps)[-1] else MEASURED for step in steps}
    top1s = {step: _top1(path, records[step]) for step, path in folders.items()}
    finished = [step for step in steps if top1s[step] is not None]
    current = next((step for step in steps if step not in finished), None)
    latest = [entry["val_top1"] for step in steps for entry in history[step]]
    state = "finished" if current is None else _state(folders[current])
    return RunProgress(
        folder=folder,
        arm=run["arm"],
        seed=run["seed"],
        state="failed" if error and current is not None else state,
        step=current,
        epoch=len(history[current]) if current else 0,
        epochs=planned[current] if current else None,
        done=len(finished),
        steps=len(steps),
        val_top1=latest[-1] if latest else None,
        top1=top1s[finished[-1]] if finished else None,
        left_seconds=_left(planned, history, finished),
        idle_seconds=_idle(folders[current]) if current else None,
        problem=error if current is not None else None,
    )


def _history(folder: Path) -> list[dict[str, Any]]:
    if (folder / TRAINED).exists():
        history: list[dict[str, Any]] = read_trained(folder)["history"]
        return history
    return read_metrics(folder / METRICS) or []


def _top1(folder: Path, record: str) -> float | None:
    """Test top-1 of the subnet that is best on validation; None if the step is not trained or measured yet."""
    if not ((folder / TRAINED).exists() and (folder / record).exists()):
        return None
    subnets = read_measured(folder, record)["subnets"]
    return max(subnets, key=lambda subnet: subnet["val_top1"])["top1"] if subnets else None


def _state(folder: Path) -> str:
    if (folder / TRAINED).exists():
        return "measuring"
    return "training" if any(_files(folder)) else "waiting"


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("*") if path.is_file())


def _idle(folder: Path) -> float | None:
    times = []
    for path in _files(folder):
        try:
            times.append(path.stat().st_mtime)
        except FileNotFoundError:  # a temporary file that was renamed in the meantime
            continue
    return max(0.0, time.time() - max(times)) if times else None


def _left(planned: Mapping[str, int], history: Mapping[str, list[dict[str, Any]]], finished: list[str]) -> float | None:
    """Remaining epochs times the mean duration of an epoch: of the same step, or else of the newest step."""
    left, seconds = 0.0, None
    for step, epochs in planned.items():
        if history[step]:
            seconds = sum(entry["seconds"] for entry in history[step]) / len(history[step])
        if step in finished:
            continue
        if seconds is None:
            return None
        left += max(0, epochs - len(history[step])) * seconds
    return left
