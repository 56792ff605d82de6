"""Measured samples: the architectures to measure for the accuracy predictor, and the file that stores the results."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RunError
from ..evaluation.encoding import Encoding
from ..execution.run_folder import difference
from ..space import Arch, arch_key
from ..utils.json_lines import append_line, read_lines
from .targets import HEIGHT, RESOLUTION, Costs, split_arch

SAMPLES = "samples.jsonl"
BINS = 10
"""Bins of equal width in the logarithm of the MACs, with equal numbers of trunks."""


@dataclass(frozen=True)
class Trunk:
    """A network that is measured at all of its unlocked exits at once.

    Args:
        arch: The architecture up to the last exit.
        resolution: Of the images in pixels.
        heights: The exits that are measured; empty for a supernet without early exits.
    """

    arch: Arch
    resolution: int
    heights: tuple[int, ...]

    @property
    def key(self) -> Arch:
        """The trunk as an architecture of the searched space."""
        return {**self.arch, RESOLUTION: self.resolution}


def plan_trunks(encoding: Encoding, costs: Costs, n_samples: int, seed: int) -> list[Trunk]:
    """Trunks with at least `n_samples` samples in total, spread evenly over the logarithm of the MACs.

    The smallest and the largest architecture are included. A longer plan does not start with the trunks of a shorter
    one, because a plan is stratified as a whole.
    """
    rng = np.random.default_rng(seed)
    heights = tuple(encoding.choices(HEIGHT)) if HEIGHT in encoding.space else ()
    wanted = math.ceil(n_samples / max(1, len(heights)))
    codes = _stratified(_pool(encoding, max(2000, 40 * wanted), bool(heights), rng), costs, wanted, rng)
    return [Trunk(*split_arch(arch), heights) for arch in encoding.decode(codes)]


def _pool(encoding: Encoding, n: int, full_height: bool, rng: np.random.Generator) -> np.ndarray:
    """Distinct codes: the smallest and the largest, then half uniform and half biased to small or large values.

    Uniform samples alone have nearly equal costs, because a cost is a sum over many independent entries.
    """
    upper = encoding.upper
    uniform = rng.integers(0, upper + 1, size=(n // 2, len(upper)))
    bias = np.exp(rng.uniform(-2, 2, size=(n // 2, 1)))
    biased = np.minimum((rng.random((n // 2, len(upper))) ** bias * (upper + 1)).astype(np.int64), upper)
    codes = np.concatenate([np.zeros_like(upper)[None], upper[None], uniform, biased])
    if full_height:
        codes[:, encoding.column[HEIGHT, 0]] = upper[encoding.column[HEIGHT, 0]]
    codes = encoding.canonical(codes)
    _, first = np.unique(codes, axis=0, return_index=True)
    return codes[np.sort(first)]


def _stratified(pool: np.ndarray, costs: Costs, n: int, rng: np.random.Generator) -> np.ndarray:
    """`n` codes of the pool: the first two, and others evenly distributed over cost bins."""
    cost = np.log(costs(pool)["macs"].astype(float))
    edges = np.linspace(cost.min(), cost.max(), BINS + 1)[1:-1]
    bins = np.digitize(cost, edges)
    order = rng.permutation(np.arange(2, len(pool)))
    # Each k-th member of a bin precedes all (k+1)-th members.
    turn = np.zeros(len(pool), dtype=np.int64)
    for number in range(BINS):
        members = order[bins[order] == number]
        turn[members] = np.arange(len(members))
    chosen = order[np.argsort(turn[order], kind="stable")]
    picked: np.ndarray = pool[np.concatenate([np.arange(min(2, len(pool))), chosen])[:n]]
    return picked


class SampleFile:
    """The measured trunks of a search folder, one JSON line each.

    Args:
        path: The file; it need not exist.
        identity: The values that the measurements depend on.
        say: Called with a line about damaged measurements, which are removed.

    Raises:
        RunError: The file was measured on another run or with other settings, or its origin is unknown.
    """

    def __init__(self, path: Path, identity: dict[str, Any], say: Callable[[str], None] = lambda text: None):
        self.path = path
        records = read_lines(path, say)
        if records and "trunk" in records[0]:
            raise RunError(
                f"{path} is damaged: its first line, which describes the run and the settings of the measurements, is "
                "missing; remove the file to measure again"
            )
        if records and records[0] != identity:
            raise RunError(
                f"{path} was measured on another run or with other settings: {difference(records[0], identity)}; "
                "choose another folder"
            )
        if not records:
            append_line(path, identity)
        self._measured = {arch_key(record["trunk"]): record for record in records[1:]}

    def __contains__(self, trunk: Trunk) -> bool:
        return arch_key(trunk.key) in self._measured

    def add(self, trunk: Trunk, samples: list[dict[str, Any]]) -> None:
        """Store the samples of a measured trunk, one per height."""
        record = {"trunk": trunk.key, "samples": samples}
        append_line(self.path, record)
        self._measured[arch_key(trunk.key)] = record

    def samples(self, plan: Sequence[Trunk] = ()) -> list[dict[str, Any]]:
        """All samples: "arch", "resolution", "trunk" (a number) and the results of `TrunkMeter.measure`.

        The order is independent of the order of measurement: first the trunks of `plan`, then the others by key.
        """
        places = {arch_key(trunk.key): place for place, trunk in enumerate(plan)}
        keys = sorted(self._measured, key=lambda key: (places.get(key, len(places)), key))
        found = []
        for number, record in enumerate(self._measured[key] for key in keys):
            arch, resolution = split_arch(record["trunk"])
            for sample in record["samples"]:
                own = {**arch, HEIGHT: sample[HEIGHT]} if HEIGHT in sample else arch
                found.append({**sample, "arch": own, "resolution": resolution, "trunk": number})
        return found
