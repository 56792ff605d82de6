"""Paired comparison of arms with the baseline, seed by seed: after the same phases, or after the same compute."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .rows import Row, accuracies, has_failed, is_finished, phase_entries, phase_order, plan_end, plan_of
from .stats import MIN_SEEDS, number, spread, t_interval

_State = tuple[float, str, float]
"""A run after a phase: compute so far (MACs), the phase's name, best accuracy (%)."""


@dataclass(frozen=True)
class Difference:
    """The differences between two arms' runs with the same seed, for several seeds.

    Args:
        by_seed: Seed -> difference.
    """

    by_seed: Mapping[Any, float] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """The number of shared seeds."""
        return len(self.by_seed)

    @property
    def mean(self) -> float | None:
        """Mean over the seeds; None without any."""
        found = spread(self.by_seed.values())
        return found.mean if found else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % Student-t interval of the mean; None with fewer than three seeds."""
        return t_interval(list(self.by_seed.values())) if self.n >= MIN_SEEDS else None

    @property
    def direction(self) -> int:
        """1 or -1 if the interval lies above or below zero; 0 if it includes zero or there is none."""
        low, high = self.interval or (0.0, 0.0)
        return (low > 0) - (high < 0)


@dataclass(frozen=True)
class PairedDifference(Difference):
    """An arm minus the baseline, seed by seed, in points of accuracy.

    Args:
        by_seed: Seed -> the arm's accuracy minus the baseline's.
        arm: The arm.
        phase: The phase after which the arm is compared (several, joined, if seeds differ); None if there is none.
        baseline_phase: The phase after which the baseline is compared.
        baseline_top1: The baseline's accuracy after that phase (%), mean over these seeds.
        compute_share: The arm's training compute up to that phase, relative to the baseline's; only at equal compute.
    """

    arm: str = ""
    phase: str | None = None
    baseline_phase: str | None = None
    baseline_top1: float | None = None
    compute_share: float | None = None

    @property
    def compared_at(self) -> str | None:
        """The compared phase; also names the baseline's phase if it differs."""
        same = self.compute_share is not None or self.phase == self.baseline_phase
        return self.phase if same else f"{self.phase}, the baseline at {self.baseline_phase}"


def paired_differences(rows: Sequence[Row], baseline: str) -> list[PairedDifference]:
    """Compare every other arm with the baseline, paired by seed.

    If both have finished runs with the same seeds, their final accuracies are compared, even if the last phases have
    different names; otherwise the accuracies after the last shared phase. Failed runs are excluded.
    """
    order = phase_order(map(plan_of, rows))
    arms: dict[str, dict[Any, Row]] = {}
    for row in rows:
        by_seed = arms.setdefault(row["arm"], {})
        if not has_failed(row):
            by_seed[row.get("seed")] = row
    base = arms.pop(baseline, {})
    return [_compare(arm, by_seed, base, order) for arm, by_seed in arms.items()]


def _compare(arm: str, runs: Mapping[Any, Row], base: Mapping[Any, Row], order: Sequence[str]) -> PairedDifference:
    pairs = {seed: (row, base[seed]) for seed, row in runs.items() if seed in base}
    finished = [(plan_end(a), plan_end(b)) for a, b in pairs.values() if is_finished(a) and is_finished(b)]
    shared = {phase for a, b in pairs.values() for phase in accuracies(a) if phase in accuracies(b)}
    if not finished and not shared:
        return PairedDifference(arm=arm)
    last = max(shared, key=order.index, default=None)
    phase, base_phase = finished[0] if finished else (last, last)
    values = {s: (accuracies(a).get(str(phase)), accuracies(b).get(str(base_phase))) for s, (a, b) in pairs.items()}
    both = {seed: (a, b) for seed, (a, b) in values.items() if a is not None and b is not None}
    return PairedDifference(
        by_seed={seed: a - b for seed, (a, b) in both.items()},
        arm=arm,
        phase=phase,
        baseline_phase=base_phase,
        baseline_top1=math.fsum(b for _, b in both.values()) / len(both),
    )


def equal_compute_differences(rows: Sequence[Row], baseline: str) -> list[PairedDifference]:
    """Compare every arm with the finished baseline, after the arm's last phase within the baseline's compute.

    Compute is the MACs spent in training. Failed runs are excluded, and so are seeds for which the arm exceeds the
    baseline's compute in its first phase or could train another phase within that compute.
    """
    budgets = {}
    for row in rows:
        states = _states(row) if row["arm"] == baseline and is_finished(row) else []
        if states and states[-1][0] > 0 and states[-1][1] == plan_end(row):
            budgets[row.get("seed")] = states[-1]
    found: dict[str, dict[Any, tuple[_State, _State]]] = {}
    for row in rows:
        budget = budgets.get(row.get("seed"))
        if row["arm"] == baseline or budget is None or has_failed(row):
            continue
        states = _states(row)
        affordable = [state for state in states if state[0] <= budget[0] * (1 + 1e-9)]
        if affordable and (len(affordable) < len(states) or is_finished(row)):
            found.setdefault(row["arm"], {})[row.get("seed")] = (affordable[-1], budget)
    return [
        PairedDifference(
            by_seed={seed: state[2] - base[2] for seed, (state, base) in pairs.items()},
            arm=arm,
            phase=" / ".join(dict.fromkeys(state[1] for state, _ in pairs.values())),
            baseline_phase=" / ".join(dict.fromkeys(base[1] for _, base in pairs.values())),
            baseline_top1=math.fsum(base[2] for _, base in pairs.values()) / len(pairs),
            compute_share=math.fsum(state[0] / base[0] for state, base in pairs.values()) / len(pairs),
        )
        for arm, pairs in found.items()
    ]


def _states(row: Row) -> list[_State]:
    """A run's state after each phase, up to the first phase without compute or accuracy."""
    states: list[_State] = []
    total = 0.0
    for entry in phase_entries(row):
        macs, top1 = number(entry.get("training_macs")), number(entry.get("best_top1"))
        if macs is None or top1 is None or not math.isfinite(total + macs):
            break
        total += macs
        states.append((total, entry["name"], top1))
    return states
