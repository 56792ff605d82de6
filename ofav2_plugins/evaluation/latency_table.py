"""Latency tables: measured times of the distinct parts of a space, and the latency of an architecture as their sum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..errors import RunError, UserError
from ..models.supernet import Supernet
from ..utils.files import read_json, read_record, write_record
from .encoding import Encoding
from .parts import PartIndex, PartTable

FORMAT = "ofav2-latency-1"


class Correction(BaseModel):
    """Latency = factor * (sum of the parts) + per_part * (number of parts) + constant, all in milliseconds."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    factor: float = 1.0
    per_part: float = 0.0
    constant: float = 0.0

    def apply(self, total: np.ndarray, parts: np.ndarray) -> np.ndarray:
        """The corrected sums [N] of the given numbers of parts [N]."""
        return self.factor * total + self.per_part * parts + self.constant


class PartTime(BaseModel):
    """The time of a part in milliseconds, and its spread over the rounds."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    ms: float = Field(ge=0)
    spread: float = Field(ge=0)


class Validation(BaseModel):
    """Quality of the predictions for whole networks that the table was not fitted on; errors in percent.

    Args:
        networks: Number of networks.
        kendall_tau: Rank correlation of predicted and measured latency.
        mape: Mean absolute percentage error.
        mape_of_sum: Mean absolute percentage error of the plain sum of the parts.
        corrected: Whether a correction was needed.
    """

    networks: int
    kendall_tau: float
    mape: float
    mape_of_sum: float
    corrected: bool


class LatencyTable(BaseModel):
    """The content of the file that `ofav2 profile` writes.

    Args:
        machine: The machine on which the times were measured: processor, CPUs, system.
        backend: "torch" or "onnxruntime".
        version: Version of that library.
        device: "cpu" or "cuda".
        threads: CPU threads.
        supernet: Label of the supernet.
        resolutions: In pixels.
        parts: Key of a part -> its time.
        correction: The correction of the sum of the parts.
        validation: Errors on whole networks.
        date: When it was measured.
    """

    model_config = ConfigDict(frozen=True)

    format: str
    machine: dict[str, Any]
    backend: str
    version: str
    device: str
    threads: int
    supernet: str
    resolutions: list[int]
    parts: dict[str, PartTime]
    correction: Correction
    validation: Validation
    date: str


def load_table(path: Path) -> LatencyTable:
    """A latency table from its file.

    Raises:
        RunError: The file is missing, damaged, or not a latency table.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RunError(f"{path} is not a latency table (format {FORMAT}); create one with `ofav2 profile`")
    try:
        return LatencyTable.model_validate(read_record(path, LatencyTable))
    except RunError as error:
        raise RunError(f"{error}; create it again with `ofav2 profile`") from error


def write_table(path: Path, table: LatencyTable) -> None:
    """Write a latency table with a digest, atomically."""
    write_record(path, table.model_dump())


def check_machine(path: Path, table: LatencyTable, machine: dict[str, Any]) -> None:
    """Raises UserError, with the remedy, for a table of another machine (see `profile.machine`)."""
    other = [name for name in table.machine if table.machine[name] != machine.get(name)]
    if other:
        name = other[0]
        here, there = machine.get(name), table.machine[name]
        raise UserError(
            f"{path} was measured on another machine: {name} must be {here!r}, but got {there!r} in the table; "
            "create a table for this machine with `ofav2 profile`, or add --allow-other-machine"
        )


class LatencyModel:
    """The predicted latency of the architectures of a supernet.

    Args:
        net: The supernet.
        encoding: The encoding of the architectures.
        table: The measured times.

    Raises:
        UserError: The table lacks a part or a resolution of this space; names the remedy.
    """

    def __init__(self, net: Supernet, encoding: Encoding, table: LatencyTable):
        self._net, self._encoding, self._table = net, encoding, table
        self._times: dict[int, np.ndarray] = {}
        self._index: PartIndex | None = None

    def prepare(self, resolution: int) -> None:
        """Look up the parts of a resolution; `predict` does this itself if necessary."""
        if resolution in self._times:
            return
        if resolution not in self._table.resolutions:
            raise UserError(
                f"the latency table has the resolutions {self._table.resolutions}, but the search uses {resolution}; "
                "create a table for this training with `ofav2 profile`"
            )
        parts = PartTable(self._net, self._encoding, resolution)
        self._index = self._index or PartIndex(self._encoding, parts.specs)
        missing = sorted(key for key in parts.distinct() if key not in self._table.parts)
        if missing:
            raise UserError(
                f"the latency table was measured on another supernet ({self._table.supernet}): {len(missing)} parts "
                f"are missing, such as {missing[0]!r}; create a table for this training with `ofav2 profile`"
            )
        self._times[resolution] = np.array(
            [self._table.parts[part.key].ms for variants in parts.variants for part in variants]
        )

    def sums(self, codes: np.ndarray, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        """The plain sum [N] of the parts' times, and the number of parts [N]."""
        self.prepare(resolution)
        assert self._index is not None
        present, variant = self._index(codes, self._encoding.active(codes))
        return np.where(present, self._times[resolution][variant], 0.0).sum(axis=1), present.sum(axis=1)

    def predict(self, codes: np.ndarray, resolution: int) -> np.ndarray:
        """Predicted milliseconds [N] per image for codes [N, G] at a resolution."""
        return self._table.correction.apply(*self.sums(codes, resolution))
