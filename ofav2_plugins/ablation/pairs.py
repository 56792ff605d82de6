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


def equal_compute_differences(rows: Sequence[Row], baseline: str) -> list[PairedDifference]:
    """Every arm against the whole baseline, where the arm had computed no more (training MACs) than it.

    An arm that computes less than the baseline in all its phases stands at its last one. Seeds at which it has
    computed more after its first phase already, or the baseline is not finished, are left out.
    """
    whole = [row for row in rows if row["arm"] == baseline and not row.get("error")]
    longest = max((len(row.get("phases") or []) for row in whole), default=0)
    budgets = {row.get("seed"): ends for row in whole if (ends := _ends(row)) and len(ends) == longest}
    found: dict[str, tuple[list[str], dict[Any, float]]] = {}
    for row in rows:
        seed, arm = row.get("seed"), row["arm"]
        if arm == baseline or seed not in budgets:
            continue
        budget, _, top1 = budgets[seed][-1]
        affordable = [end for end in _ends(row) if end[0] <= budget * (1 + 1e-9)]
        if affordable:
            phases, by_seed = found.setdefault(arm, ([], {}))
            phases.append(affordable[-1][1])
            by_seed[seed] = affordable[-1][2] - top1
    return [
        PairedDifference(arm, " / ".join(dict.fromkeys(phases)), by_seed) for arm, (phases, by_seed) in found.items()
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
