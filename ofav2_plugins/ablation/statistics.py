"""What a study's numbers say: intervals, paired differences, ranks, fronts, and the summary of results.

No torch here. A value that is missing, NaN or infinite is left out of every summary, never counted as zero.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

Row = Mapping[str, Any]

CANONICAL = ("full", "kernel", "level", "height", "depth", "width")
COSTS = ("macs", "params", "latency_ms")


def bootstrap_interval(
    values: Sequence[float], seed: int = 0, n: int = 10000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean.

    Args:
        values: At least two values, one per seed.
        seed: Of the resampling, which has a generator of its own.
        n: Number of resamples.
        level: The share of resampled means that lies inside.

    Raises:
        ValueError: Fewer than two values (one says nothing about the spread), or one that is not finite.
    """
    held = np.asarray(values, dtype=float)
    if held.ndim != 1 or len(held) < 2 or not np.isfinite(held).all():
        raise ValueError(f"an interval needs two or more finite values, but got {list(values)}")
    draws = np.random.default_rng(seed).integers(0, len(held), size=(n, len(held)))
    low, high = np.quantile(held[draws].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Rank correlation; ties get their mean rank. NaN for fewer than two pairs or a constant side."""
    if len(x) != len(y):
        raise ValueError(f"both sides must have the same length, but got {len(x)} and {len(y)}")
    a, b = _ranks(x), _ranks(y)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    _, where, counts = np.unique(np.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[where]


def pareto_front(points: Sequence[tuple[float | None, float | None]]) -> list[int]:
    """Indices of the (cost, accuracy) points that no other point beats, ascending in cost.

    A point is beaten by one that costs no more and is at least as accurate, and better in one of the two. Of
    equal points the first counts; points with a value that is missing or not finite do not take part.
    """
    whole = [(i, number(cost), number(top1)) for i, (cost, top1) in enumerate(points)]
    usable = [(cost, -top1, i) for i, cost, top1 in whole if cost is not None and top1 is not None]
    front: list[int] = []
    best = -math.inf
    for _, negative, i in sorted(usable):
        if -negative > best:
            front.append(i)
            best = -negative
    return front


def number(value: Any) -> float | None:
    """`value` as a finite float, or None where it is missing, not a number, NaN or infinite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        held = float(value)
    except OverflowError:
        return None
    return held if math.isfinite(held) else None


def phase_order(names: Iterable[str]) -> list[str]:
    """Distinct phases: full, kernel, level, height, depth, width by number, then others as they appear."""

    def key(name: str) -> tuple[int, int]:
        match = re.fullmatch(rf"({'|'.join(CANONICAL)})(?:-([0-9]+))?", name)
        return (CANONICAL.index(match[1]), int(match[2] or 0)) if match else (len(CANONICAL), 0)

    return sorted(dict.fromkeys(names), key=key)


@dataclass(frozen=True)
class Spread:
    """A value over seeds: mean, smallest, largest and the number of seeds that have it."""

    mean: float
    low: float
    high: float
    n: int


def spread(values: Iterable[Any]) -> Spread | None:
    """The spread of the finite ones among `values`; None where there is none."""
    held = [v for v in map(number, values) if v is not None]
    if not held:
        return None
    # fsum and the clamp: equal values must give exactly that value, not one beside the range
    mean = min(max(math.fsum(held) / len(held), min(held)), max(held))
    return Spread(mean, min(held), max(held), len(held))


@dataclass(frozen=True)
class PairedDifference:
    """An arm against the baseline, seed by seed, in points of `best_top1`.

    Args:
        arm: The arm.
        phase: The last phase that both have for at least one seed; None where there is no such phase.
        by_seed: Seed -> the arm's accuracy minus the baseline's.
    """

    arm: str
    phase: str | None
    by_seed: Mapping[Any, float]

    @property
    def mean(self) -> float | None:
        """Mean over the seeds."""
        held = spread(self.by_seed.values())
        return held.mean if held else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % bootstrap interval of the mean; None with fewer than two seeds."""
        return bootstrap_interval(list(self.by_seed.values())) if len(self.by_seed) > 1 else None


def paired_differences(rows: Sequence[Row], baseline: str) -> list[PairedDifference]:
    """Every arm but the baseline against the baseline, paired by seed, at the last phase that both have."""
    tops: dict[str, dict[str, dict[Any, float]]] = {}
    for row in rows:
        arm = tops.setdefault(row["arm"], {})
        for phase in row.get("phases") or []:
            top1 = number(phase.get("best_top1"))
            if top1 is not None:
                arm.setdefault(phase["name"], {})[row.get("seed")] = top1
    base = tops.get(baseline, {})
    found = []
    for name, phases in tops.items():
        if name == baseline:
            continue
        shared = [phase for phase in phases if set(phases[phase]) & set(base.get(phase, {}))]
        last = shared[-1] if shared else None
        pairs = {s: t - base[last][s] for s, t in phases[last].items() if s in base[last]} if last else {}
        found.append(PairedDifference(name, last, pairs))
    return found


def subnet_key(subnet: Row) -> str:
    """What makes two measured subnets of different supernets the same network.

    The last exit of an early-exit net and a block of which only the MB block is active are what a net without
    exits and branches has anyway, so these entries are left out.
    """
    arch = dict(subnet.get("arch") or {})
    depths = arch.get("d")
    if isinstance(depths, list) and arch.get("height") == len(depths):
        del arch["height"]
    level = arch.get("level")
    if isinstance(level, list) and all(entry == ["mbconv"] for entry in level):
        del arch["level"]
    return json.dumps([arch, subnet.get("resolution"), bool(subnet.get("ensemble"))], sort_keys=True)


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rho of two arms over the `n` subnets that both measured in their last phase."""

    a: str
    b: str
    rho: float | None
    n: int


@dataclass(frozen=True)
class ArmEnd:
    """Where an arm stands: its last phase and, at it, best, mean and worst accuracy over seeds."""

    arm: str
    phase: str | None
    finished: bool
    seeds: int
    best: Spread | None
    mean: Spread | None
    worst: Spread | None


class Summary:
    """A results dict, summed up. Everything that report, charts and tables show comes from here."""

    def __init__(self, results: Mapping[str, Any]):
        given = {key: value for key, value in (results.get("study") or {}).items() if value is not None}
        self.study: Mapping[str, Any] = {
            "description": "",
            "dataset": "",
            "command": "",
            "recipes": {},
            **given,
        }
        self.environment: Mapping[str, Any] = results.get("environment") or {}
        self.rows: list[Row] = list(results.get("rows") or [])
        self.baseline: str = self.study.get("baseline") or ""
        self.arms = list(dict.fromkeys([*(row["arm"] for row in self.rows), *self.study["recipes"]]))
        self.seeds = list(dict.fromkeys(row.get("seed") for row in self.rows))
        self.phases = phase_order(p["name"] for row in self.rows for p in row.get("phases") or [])

    def of(self, arm: str) -> list[Row]:
        """The rows of an arm, one per seed."""
        return [row for row in self.rows if row["arm"] == arm]

    def over_seeds(self, arm: str, phase: str, key: str) -> Spread | None:
        """A number of a phase over the arm's seeds."""
        return spread(
            entry.get(key) for row in self.of(arm) for entry in row.get("phases") or [] if entry["name"] == phase
        )

    def last_phase(self, arm: str) -> str | None:
        """The last phase of the arm's row that came furthest."""
        listed = [[entry["name"] for entry in row.get("phases") or []] for row in self.of(arm)]
        longest = max(listed, key=len, default=[])
        return longest[-1] if longest else None

    @cached_property
    def ends(self) -> list[ArmEnd]:
        """Where each arm stands; finished is who came as far as any arm did."""
        ends = []
        for arm in self.arms:
            last = self.last_phase(arm)
            best, mean, worst = (
                self.over_seeds(arm, last, key) if last else None for key in ("best_top1", "mean_top1", "min_top1")
            )
            finished = best is not None and last in self.phases[self.phases.index(self._goal) :]
            ends.append(ArmEnd(arm, last, finished, best.n if best else 0, best, mean, worst))
        return ends

    @cached_property
    def _goal(self) -> str:
        """The furthest last phase of any arm; of the known kinds, if there is one: others have no order."""
        lasts = phase_order(last for last in map(self.last_phase, self.arms) if last)
        known = [last for last in lasts if last.split("-")[0] in CANONICAL]
        return (known or lasts)[-1]

    @cached_property
    def gains(self) -> list[PairedDifference]:
        """Every arm that has a phase in common with the baseline, against it."""
        return [gain for gain in paired_differences(self.rows, self.baseline) if gain.by_seed]

    def subnets(self, arm: str, seed: Any = None) -> list[Row]:
        """Subnets measured in the arm's last phase, of one seed or of all."""
        last = self.last_phase(arm)
        return [
            subnet
            for row in self.of(arm)
            if seed is None or row.get("seed") == seed
            for entry in row.get("phases") or []
            if entry["name"] == last
            for subnet in entry.get("subnets") or []
        ]

    @cached_property
    def costs(self) -> list[str]:
        """The costs that at least one subnet of a last phase has."""
        subnets = [subnet for arm in self.arms for subnet in self.subnets(arm)]
        return [cost for cost in COSTS if any(number(subnet.get(cost)) is not None for subnet in subnets)]

    @cached_property
    def correlations(self) -> list[RankCorrelation]:
        """Pairs of arms with the same last phase that share a subnet; accuracies are means over seeds."""
        means = {arm: self._accuracy_by_subnet(arm) for arm in self.arms}
        found = []
        for a, b in combinations(self.arms, 2):
            shared = [key for key in means[a] if key in means[b]]
            if self.last_phase(a) == self.last_phase(b) and shared:
                rho = spearman([means[a][k] for k in shared], [means[b][k] for k in shared])
                # two points are always perfectly ranked, one way or the other: nothing to report
                found.append(RankCorrelation(a, b, number(rho) if len(shared) > 2 else None, len(shared)))
        return found

    def _accuracy_by_subnet(self, arm: str) -> dict[str, float]:
        tops: dict[str, list[Any]] = {}
        for subnet in self.subnets(arm):
            tops.setdefault(subnet_key(subnet), []).append(subnet.get("top1"))
        spreads = {key: spread(values) for key, values in tops.items()}
        return {key: held.mean for key, held in spreads.items() if held}

    @cached_property
    def exits(self) -> dict[str, tuple[str | None, dict[int, Spread]]]:
        """Arm -> (phase, height -> accuracy), for arms with at least two exits.

        Where any arm has measured exits, these, and the phase is None. Else the subnet best on validation
        among those that end at each exit, after the phase that measured the most exits, the later of equals.
        """
        for find in (self._exits_measured, self._exits_by_subnet):
            found = {arm: held for arm in self.arms if len((held := find(arm))[1]) > 1}
            if found:
                return found
        return {}

    def _exits_measured(self, arm: str) -> tuple[str | None, dict[int, Spread]]:
        return None, _joined(map(_measured_exits, self.of(arm)))

    def _exits_by_subnet(self, arm: str) -> tuple[str | None, dict[int, Spread]]:
        best: tuple[str | None, dict[int, Spread]] = (None, {})
        entries = [entry for row in self.of(arm) for entry in row.get("phases") or []]
        for phase in dict.fromkeys(entry["name"] for entry in entries):
            held = _joined(_best_by_height(entry) for entry in entries if entry["name"] == phase)
            if len(held) >= len(best[1]):
                best = (phase, held)
        return best

    def total(self, arm: str, key: str) -> Spread | None:
        """An additive number of all the arm's phases (or of its row, where the phases lack it) over seeds."""
        totals = []
        for row in self.of(arm):
            held = [number(entry.get(key)) for entry in row.get("phases") or []]
            known = [value for value in held if value is not None]
            totals.append(math.fsum(known) if known else row.get(key))
        return spread(totals)

    def peak(self, arm: str, key: str) -> Spread | None:
        """The largest of a number over the arm's phases (or its row's), over seeds."""
        peaks = []
        for row in self.of(arm):
            held = [number(held.get(key)) for held in [*(row.get("phases") or []), row]]
            peaks.append(max((value for value in held if value is not None), default=None))
        return spread(peaks)

    @cached_property
    def notes(self) -> list[str]:
        """What is missing, one sentence each: arms that failed, did not start, or are not finished."""
        notes = []
        for row in self.rows:
            if row.get("error"):
                notes.append(f"{row['arm']}, seed {row.get('seed')}, failed: {row['error']}")
        for end in self.ends:
            if end.phase is None:
                failed = any(row.get("error") for row in self.of(end.arm))
                notes += [] if failed else [f"{end.arm} has no finished phase."]
            elif end.best is None:
                notes.append(f"{end.arm} has no accuracy for its last phase, {end.phase}.")
            elif not end.finished:
                notes.append(f"{end.arm} is not finished: its last phase is {end.phase}, not {self._goal}.")
            elif end.seeds < len(self.of(end.arm)):
                notes.append(f"{end.arm} has {end.phase} for {end.seeds} of {len(self.of(end.arm))} seeds.")
        return notes


def _joined(tops: Iterable[Mapping[int, float]]) -> dict[int, Spread]:
    """Accuracies by height, seed by seed, as spreads."""
    listed = list(tops)
    heights = sorted({height for held in listed for height in held})
    return {h: s for h in heights if (s := spread(held.get(h) for held in listed))}


def _best_by_height(entry: Row) -> dict[int, float]:
    best: dict[int, tuple[float, float]] = {}
    for subnet in entry.get("subnets") or []:
        height: Any = (subnet.get("arch") or {}).get("height")
        validation, top1 = number(subnet.get("val_top1")), number(subnet.get("top1"))
        if not isinstance(height, int) or subnet.get("ensemble") or validation is None or top1 is None:
            continue
        if height not in best or validation > best[height][0]:
            best[height] = (validation, top1)
    return {height: top1 for height, (_, top1) in best.items()}


def _measured_exits(row: Row) -> dict[int, float]:
    """The exits of a row, or of its last phase that has some."""
    listed = [row.get("exits"), *(entry.get("exits") for entry in reversed(row.get("phases") or []))]
    exits: Any = next((entries for entries in listed if entries), [])
    tops = {entry.get("height"): number(entry.get("top1")) for entry in exits}
    return {height: top1 for height, top1 in tops.items() if isinstance(height, int) and top1 is not None}
