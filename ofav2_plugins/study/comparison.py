"""Arms against the baseline, seed by seed: after the same phases, and after the same compute."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .stats import bootstrap_interval, number, phase_order, spread

Row = Mapping[str, Any]
_End = tuple[float, str, float]
"""Where an arm stood after a phase: compute so far (MACs), the phase, best accuracy (%)."""


@dataclass(frozen=True)
class PairedDifference:
    """An arm against the baseline, seed by seed, in points of `best_top1`.

    Args:
        arm: The arm.
        phase: Where the arm stands in it (several seeds may stand at several); None where they share none.
        by_seed: Seed -> the arm's accuracy minus the baseline's.
        baseline_phase: Where the baseline stands in it.
        baseline_top1: The baseline's accuracy there (%), mean over these seeds.
        share: What the arm had computed by then, as a share of what the baseline had; None where it was not asked.
    """

    arm: str
    phase: str | None
    by_seed: Mapping[Any, float]
    baseline_phase: str | None = None
    baseline_top1: float | None = None
    share: float | None = None

    @property
    def where(self) -> str | None:
        """The phase that is compared, in words where the baseline stands in another."""
        same = self.share is not None or self.phase == self.baseline_phase
        return self.phase if same else f"{self.phase}, the baseline at {self.baseline_phase}"

    @property
    def mean(self) -> float | None:
        """Mean over the seeds."""
        held = spread(self.by_seed.values())
        return held.mean if held else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % bootstrap interval of the mean; None with fewer than two seeds."""
        return bootstrap_interval(list(self.by_seed.values())) if len(self.by_seed) > 1 else None


def plan_end(row: Row) -> str | None:
    """The last step of a row's plan; None where it does not say."""
    return (row.get("steps") or [None])[-1]


def is_whole(row: Row) -> bool:
    """Whether an arm came to the end of its plan, with an accuracy there (it may have failed when it was run again)."""
    return plan_end(row) in _accuracies(row)


def paired_differences(rows: Sequence[Row], baseline: str) -> list[PairedDifference]:
    """Every arm but the baseline against the baseline, paired by seed.

    Where both have come to their ends, whatever these are called, the ends are compared; else the last phase that
    both have.
    """
    arms: dict[str, dict[Any, Row]] = {}
    for row in rows:
        arms.setdefault(row["arm"], {})[row.get("seed")] = row
    base = arms.pop(baseline, {})
    return [_against(name, by_seed, base) for name, by_seed in arms.items()]


def _against(name: str, arm: Mapping[Any, Row], base: Mapping[Any, Row]) -> PairedDifference:
    pairs = {seed: (_accuracies(row), _accuracies(base[seed])) for seed, row in arm.items() if seed in base}
    ends = [(arm[s]["steps"][-1], base[s]["steps"][-1]) for s in pairs if is_whole(arm[s]) and is_whole(base[s])]
    shared = phase_order(phase for own, others in pairs.values() for phase in own if phase in others)
    if not ends and not shared:
        return PairedDifference(name, None, {})
    phase, other = ends[0] if ends else (shared[-1], shared[-1])
    both = {s: (own[phase], others[other]) for s, (own, others) in pairs.items() if phase in own and other in others}
    base_top1 = math.fsum(of_base for _, of_base in both.values()) / len(both)
    return PairedDifference(name, phase, {s: own - of_base for s, (own, of_base) in both.items()}, other, base_top1)


def _accuracies(row: Row) -> dict[str, float]:
    """Phase -> best accuracy, of the phases that have one."""
    held = {phase["name"]: number(phase.get("best_top1")) for phase in row.get("phases") or []}
    return {name: top1 for name, top1 in held.items() if top1 is not None}


def equal_compute_differences(rows: Sequence[Row], baseline: str) -> list[PairedDifference]:
    """Every arm against the whole baseline, where the arm had computed no more (training MACs) than it.

    An arm that computes less than the baseline in all its phases stands at its last one. Left out are seeds at which
    it has computed more after its first phase already, it could afford more than it has come to so far, or the
    baseline is not whole.
    """
    whole = [row for row in rows if row["arm"] == baseline and is_whole(row)]
    budgets = {row.get("seed"): ends[-1] for row in whole if (ends := _ends(row)) and ends[-1][1] == plan_end(row)}
    stands: dict[str, list[tuple[Any, _End, _End]]] = {}
    for row in rows:
        budget = budgets.get(row.get("seed"))
        if row["arm"] == baseline or not budget or not budget[0]:
            continue
        ends = _ends(row)
        affordable = [end for end in ends if end[0] <= budget[0] * (1 + 1e-9)]
        if affordable and (len(affordable) < len(ends) or is_whole(row)):
            stands.setdefault(row["arm"], []).append((row.get("seed"), affordable[-1], budget))
    return [
        PairedDifference(
            arm,
            " / ".join(dict.fromkeys(phase for _, (_, phase, _), _ in held)),
            {seed: top1 - of_base for seed, (_, _, top1), (_, _, of_base) in held},
            " / ".join(dict.fromkeys(phase for _, _, (_, phase, _) in held)),
            math.fsum(of_base for _, _, (_, _, of_base) in held) / len(held),
            math.fsum(macs / budget for _, (macs, _, _), (budget, _, _) in held) / len(held),
        )
        for arm, held in stands.items()
    ]


def _ends(row: Row) -> list[_End]:
    """(compute so far, phase, best accuracy) after each phase, up to the first that lacks one of them."""
    ends: list[_End] = []
    total = 0.0
    for phase in row.get("phases") or []:
        macs, top1 = number(phase.get("training_macs")), number(phase.get("best_top1"))
        if macs is None or top1 is None or not math.isfinite(total + macs):
            break
        total += macs
        ends.append((total, phase["name"], top1))
    return ends
