"""Arms against the baseline, seed by seed: after the same phases, and after the same compute."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .numbers import bootstrap_interval, number, spread

Row = Mapping[str, Any]


@dataclass(frozen=True)
class PairedDifference:
    """An arm against the baseline, seed by seed, in points of `best_top1`.

    Args:
        arm: The arm.
        phase: Where the arm stands in it (several seeds may stand at several); None where they share none.
        by_seed: Seed -> the arm's accuracy minus the baseline's.
        baseline_phase: Where the baseline stands in it.
        share: What the arm had computed by then, as a share of what the baseline had; None where it was not asked.
    """

    arm: str
    phase: str | None
    by_seed: Mapping[Any, float]
    baseline_phase: str | None
    share: float | None = None

    @property
    def mean(self) -> float | None:
        """Mean over the seeds."""
        held = spread(self.by_seed.values())
        return held.mean if held else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % bootstrap interval of the mean; None with fewer than two seeds."""
        return bootstrap_interval(list(self.by_seed.values())) if len(self.by_seed) > 1 else None


def is_whole(row: Row) -> bool:
    """Whether an arm came to the end of its plan, with an accuracy there."""
    return not row.get("error") and plan_end(row) in _tops(row)


def plan_end(row: Row) -> str | None:
    """The last step of a row's plan; None where it does not say."""
    return (row.get("steps") or [None])[-1]


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
    pairs = {seed: (_tops(row), _tops(base[seed])) for seed, row in arm.items() if seed in base}
    for seed in pairs:
        if is_whole(arm[seed]) and is_whole(base[seed]):
            phase, other = plan_end(arm[seed]), plan_end(base[seed])
            break
    else:
        shared = {phase: None for own, others in pairs.values() for phase in own if phase in others}
        phase = other = next(reversed(shared), None)
    by_seed = {s: own[phase] - others[other] for s, (own, others) in pairs.items() if phase in own and other in others}
    return PairedDifference(name, phase, by_seed, other)


def _tops(row: Row) -> dict[str, float]:
    """Phase -> best accuracy, of the phases that have one."""
    held = {phase["name"]: number(phase.get("best_top1")) for phase in row.get("phases") or []}
    return {name: top1 for name, top1 in held.items() if top1 is not None}


def equal_compute_differences(rows: Sequence[Row], baseline: str) -> list[PairedDifference]:
    """Every arm against the whole baseline, where the arm had computed no more (training MACs) than it.

    An arm that computes less than the baseline in all its phases stands at its last one. Seeds at which it has
    computed more after its first phase already, or the baseline is not finished, are left out.
    """
    whole = [row for row in rows if row["arm"] == baseline and is_whole(row)]
    budgets = {row.get("seed"): ends for row in whole if (ends := _ends(row))[-1:] and ends[-1][1] == plan_end(row)}
    found: dict[str, tuple[list[str], list[float], dict[Any, float]]] = {}
    for row in rows:
        seed, arm = row.get("seed"), row["arm"]
        if arm == baseline or seed not in budgets:
            continue
        budget, _, top1 = budgets[seed][-1]
        affordable = [end for end in _ends(row) if end[0] <= budget * (1 + 1e-9)]
        if affordable:
            phases, shares, by_seed = found.setdefault(arm, ([], [], {}))
            phases.append(affordable[-1][1])
            shares.append(affordable[-1][0] / budget)
            by_seed[seed] = affordable[-1][2] - top1
    last = next((ends[-1][1] for ends in budgets.values()), None)
    return [
        PairedDifference(arm, " / ".join(dict.fromkeys(phases)), by_seed, last, math.fsum(shares) / len(shares))
        for arm, (phases, shares, by_seed) in found.items()
    ]


def _ends(row: Row) -> list[tuple[float, str, float]]:
    """(compute so far, phase, best accuracy) after each phase, up to the first that lacks one of them."""
    ends, total = [], 0.0
    for phase in row.get("phases") or []:
        macs, top1 = number(phase.get("training_macs")), number(phase.get("best_top1"))
        if macs is None or top1 is None or not math.isfinite(total + macs):
            break
        total += macs
        ends.append((total, phase["name"], top1))
    return ends
