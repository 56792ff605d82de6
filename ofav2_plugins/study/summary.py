"""What a study's numbers say: the summary of results, from which report, charts and tables are made. No torch here."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

from .comparison import PairedDifference, Row, equal_compute_differences, paired_differences, plan_end
from .stats import CANONICAL, Spread, number, phase_order, spearman, spread

COSTS = ("macs", "params", "latency_ms")


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
class FinalResult:
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
            "factors": {},
            **given,
        }
        self.environment: Mapping[str, Any] = results.get("environment") or {}
        self.rows: list[Row] = _with_last_steps(list(results.get("rows") or []))
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
    def final_results(self) -> list[FinalResult]:
        """Where each arm stands; finished is one that came to the end of its plan."""
        ends = []
        for arm in self.arms:
            last = self.last_phase(arm)
            best, mean, worst = (
                self.over_seeds(arm, last, key) if last else None for key in ("best_top1", "mean_top1", "min_top1")
            )
            finished = best is not None and last == self._goal(arm)
            ends.append(FinalResult(arm, last, finished, best.n if best else 0, best, mean, worst))
        return ends

    def _goal(self, arm: str) -> str | None:
        """The last step of the arm's plan."""
        return next((end for row in self.of(arm) if (end := plan_end(row))), None)

    @cached_property
    def gains(self) -> list[PairedDifference]:
        """Every arm that can be compared with the baseline, against it."""
        return [gain for gain in paired_differences(self.rows, self.baseline) if gain.by_seed]

    @cached_property
    def gains_at_equal_compute(self) -> list[PairedDifference]:
        """Every arm against the baseline, where it had computed no more; none where the compute is not recorded."""
        return equal_compute_differences(self.rows, self.baseline)

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
        accuracies: dict[str, list[Any]] = {}
        for subnet in self.subnets(arm):
            accuracies.setdefault(subnet_key(subnet), []).append(subnet.get("top1"))
        spreads = {key: spread(values) for key, values in accuracies.items()}
        return {key: held.mean for key, held in spreads.items() if held}

    def ensemble(self, arm: str) -> Spread | None:
        """Accuracy of all exits together, after the arm's last phase."""
        last = self.last_phase(arm)
        return self.over_seeds(arm, last, "ensemble_top1") if last else None

    @cached_property
    def exits(self) -> dict[str, tuple[str | None, dict[int, Spread]]]:
        """Arm -> (phase, height -> accuracy), for arms with at least two exits.

        Where any arm has measured exits (of the maximal network), these, after its last phase. Else the subnet
        best on validation among those that end at each exit, after the phase that measured the most exits, the
        later of equals.
        """
        for find in (self._exits_measured, self._exits_by_subnet):
            found = {arm: held for arm in self.arms if len((held := find(arm))[1]) > 1}
            if found:
                return found
        return {}

    @cached_property
    def exits_are_measured(self) -> bool:
        """Whether `exits` are those of the maximal network, not of the best subnets that end there."""
        return any(len(self._exits_measured(arm)[1]) > 1 for arm in self.arms)

    @cached_property
    def ranked(self) -> list[tuple[FinalResult, float]]:
        """Finished arms by their paired gain over the baseline at the end, the best first; the baseline's is 0."""
        last = self.last_phase(self.baseline)
        gains = {
            gain.arm: gain.mean
            for gain in self.gains
            if gain.phase == self.last_phase(gain.arm) and gain.baseline_phase == last
        }
        gains[self.baseline] = 0.0
        found = [(end, gain) for end in self.final_results if end.finished and (gain := gains.get(end.arm)) is not None]
        return sorted(found, key=lambda pair: -pair[1])

    def exits_after(self, arm: str, phase: str | None) -> dict[int, Spread]:
        """Height -> accuracy of each exit of the maximal network, as measured after a phase."""
        return _joined(_measured_exits(row, phase) for row in self.of(arm))

    def _exits_measured(self, arm: str) -> tuple[str | None, dict[int, Spread]]:
        last = self.last_phase(arm)
        return last, self.exits_after(arm, last)

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
        for end in self.final_results:
            if end.phase is None:
                failed = any(row.get("error") for row in self.of(end.arm))
                notes += [] if failed else [f"{end.arm} has no finished phase."]
            elif end.best is None:
                notes.append(f"{end.arm} has no accuracy for its last phase, {end.phase}.")
            elif not end.finished:
                notes.append(f"{end.arm} is not finished: its last phase is {end.phase}, not {self._goal(end.arm)}.")
            elif end.seeds < len(self.of(end.arm)):
                notes.append(f"{end.arm} has {end.phase} for {end.seeds} of {len(self.of(end.arm))} seeds.")
        return notes


def _with_last_steps(rows: list[Row]) -> list[Row]:
    """The rows, each with `steps`: one that does not tell its plan ends where any arm came furthest, or beyond."""
    lasts = [row["phases"][-1]["name"] if row.get("phases") else None for row in rows]
    order = phase_order(last for last in lasts if last)
    known = [name for name in order if name.split("-")[0] in CANONICAL] or order
    beyond = order[order.index(known[-1]) :] if known else []
    ends = [last if last in beyond else known[-1] if known else None for last in lasts]
    return [
        row if row.get("steps") or end is None else {**row, "steps": [end]} for row, end in zip(rows, ends, strict=True)
    ]


def _joined(accuracies: Iterable[Mapping[int, float]]) -> dict[int, Spread]:
    """Accuracies by height, seed by seed, as spreads."""
    listed = list(accuracies)
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


def _measured_exits(row: Row, phase: str | None) -> dict[int, float]:
    """Height -> accuracy, as one of a row's phases has measured them."""
    exits = [e for entry in row.get("phases") or [] if entry["name"] == phase for e in entry.get("exits") or []]
    accuracies = {entry.get("height"): number(entry.get("top1")) for entry in exits}
    return {height: top1 for height, top1 in accuracies.items() if isinstance(height, int) and top1 is not None}
