"""The records of a finished step, `trained.json` and `measured.json`, and the results that are built from them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from ..errors import RunError
from ..loggers.jsonl import METRICS, read_metrics
from ..utils.files import read_record, write_record

TRAINED = "trained.json"
MEASURED, FINAL = "measured.json", "measured-final.json"
"""The subnets measured after a step, and those measured after the last step of a plan."""

Percent = Annotated[float, Field(ge=0, le=100)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Epoch(_Record):
    epoch: Count
    loss: Annotated[float, Field(allow_inf_nan=False)]
    val_top1: Percent
    seconds: NotNegative
    images_per_second: NotNegative | None
    peak_memory_mib: NotNegative
    energy_kwh: NotNegative = 0
    co2_kg: NotNegative = 0


class Trained(_Record):
    """`trained.json`: the record of a step's training."""

    written_by: str
    history: list[_Epoch] = Field(min_length=1)
    seconds: NotNegative
    training_macs: Count = 0  # 0 for fine-tuning


class _Subnet(_Record):
    arch: dict[str, Any]
    resolution: Count
    ensemble: bool
    val_top1: Percent
    top1: Percent
    macs: Count
    params: Count
    latency_ms: NotNegative = 0


class _Exit(_Record):
    height: Count
    val_top1: Percent
    top1: Percent


class MeasuredStep(_Record):
    """`measured.json` or `measured-final.json`: subnets measured after a step; `exits` only if there are several."""

    written_by: str
    settings: dict[str, Any]
    subnets: list[_Subnet]
    seconds: NotNegative
    exits: list[_Exit] = []
    ensemble_top1: Percent = 0
    ensemble_val_top1: Percent = 0


def write_trained(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the training record of the step in `folder`."""
    write_record(folder / TRAINED, {"written_by": folder.name, **content})


def read_trained(folder: Path) -> dict[str, Any]:
    """The record of a trained step. Raises RunError if it is missing, damaged, or belongs to another step."""
    return read_step_record(folder / TRAINED, folder.name, Trained)


def write_measured(folder: Path, content: Mapping[str, Any], name: str = MEASURED) -> None:
    """Write the measurements made after the step in `folder`."""
    write_record(folder / name, {"written_by": folder.name, **content})


def read_measured(folder: Path, name: str = MEASURED) -> dict[str, Any]:
    """The measurements made after a step. Raises RunError if they are missing, damaged, or belong to another step."""
    return read_step_record(folder / name, folder.name, MeasuredStep)


def read_step_record(path: Path, step: str, model: type[BaseModel] | None = None) -> dict[str, Any]:
    """A record of a step, without its field `written_by`.

    Args:
        path: The file.
        step: The name of the step's folder, which `written_by` must equal.
        model: The fields of the record.

    Raises:
        RunError: The record is missing, damaged, or belongs to another step.
    """
    record = read_record(path, model)
    writer = record.pop("written_by", None)
    if writer != step:
        raise RunError(f"{path} is of step {writer!r}, not of {step!r}")
    return record


def metrics_differ(folder: Path, history: list[dict[str, Any]]) -> bool:
    """Whether `metrics.jsonl` is missing, damaged, or differs from the recorded history."""
    return read_metrics(folder / METRICS) != history


def phase_result(name: str, measured: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any]:
    """One `phases` entry of a results row: accuracies in percent on the test set, and the cost of the step.

    `best_top1` is the test accuracy of the subnet best on validation. Only `test_max_top1`, which the paper charts,
    is selected on the test set. Energy is an estimate; it is included if it was requested.
    """
    subnets, history = measured["subnets"], trained["history"]
    top1s = [subnet["top1"] for subnet in subnets]
    speeds = [entry["images_per_second"] for entry in history if entry["images_per_second"]]
    energy = {
        key: sum(entry[key] for entry in history if key in entry)
        for key in ("energy_kwh", "co2_kg")
        if any(key in entry for entry in history)
    }
    return {
        "name": name,
        "best_top1": max(subnets, key=lambda subnet: subnet["val_top1"])["top1"],
        "test_max_top1": max(top1s),
        "mean_top1": sum(top1s) / len(top1s),
        "min_top1": min(top1s),
        **{key: measured[key] for key in ("exits", "ensemble_top1", "ensemble_val_top1") if key in measured},
        "training_macs": trained["training_macs"],
        "seconds": trained["seconds"] + measured["seconds"],
        "images_per_second": statistics.median(speeds) if speeds else None,
        "peak_memory_mib": max(entry["peak_memory_mib"] for entry in history),
        **energy,
        "subnets": subnets,
    }
