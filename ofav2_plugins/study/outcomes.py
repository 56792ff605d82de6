"""Outcomes of a finished run: accuracy by exit and within MACs budgets, and the hypervolume of its Pareto front.

Subnets, exits and fronts are selected on validation images; the values are measured on test images.
Does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .rows import Row, is_finished, phase_entries, plan_end, subnets_of
from .stats import hypervolume, number, pareto_front

QUANTILES = (0.25, 0.5, 0.75, 1.0)
"""The budgets are these quantiles of the MACs of the baseline's subnets."""


@dataclass(frozen=True)
class Measure:
    """A metric for comparing finished runs, in percent.

    Args:
        key: Identifier.
        name: Column header.
        description: One sentence for the reader.
        budget: The MACs budget, for the accuracy within one.
    """

    key: str
    name: str
    description: str
    budget: int | None = None


BEST_SUBNET = Measure(
    "best_subnet", "Best subnet", "of all subnets measured after the last phase, the best on validation"
)
LAST_EXIT = Measure("last_exit", "Last exit", "the maximal network at its last exit")
BEST_EXIT = Measure("best_exit", "Best exit", "the maximal network at the exit best on validation")
ENSEMBLE = Measure("ensemble", "All exits", "the weighted sum of all exits of the maximal network")


def macs_budgets(baseline: Iterable[Row]) -> list[int]:
    """MACs budgets of subnets, ascending: quartiles of the subnets measured after the baseline's last step.

    Each is rounded up to two significant digits.
    """
    subnets = [subnet for row in baseline if is_finished(row) for subnet in final_subnets(row)]
    macs = [value for subnet in subnets if (value := number(subnet.get("macs"))) is not None and value > 0]
    if not macs:
        return []
    chosen = np.quantile(sorted(set(macs)), QUANTILES, method="inverted_cdf")
    return sorted({_rounded_up(float(value)) for value in chosen})


def _rounded_up(value: float) -> int:
    unit = 10 ** max(math.floor(math.log10(value)) - 1, 0)
    rounded: int = math.ceil(value / unit) * unit
    return rounded


def measures(budgets: Sequence[int], several_exits: bool) -> list[Measure]:
    """The measures for comparing finished runs.

    Args:
        budgets: MACs budgets, ascending.
        several_exits: Whether any arm has measured several exits.
    """
    within = [
        Measure(f"macs_{budget}", f"≤ {amount(budget)} MACs", f"the best subnet within {amount(budget)} MACs", budget)
        for budget in budgets
    ]
    found = [BEST_SUBNET, LAST_EXIT, *([BEST_EXIT, ENSEMBLE] if several_exits else []), *within]
    if budgets:
        limit = amount(budgets[-1])
        text = f"the accuracy within a MACs budget, averaged over all budgets up to {limit} (0 if no subnet fits)"
        found.append(Measure("hypervolume", "Hypervolume", text))
    return found


def amount(value: float) -> str:
    """A count in three significant digits with a unit: "5.47 M"."""
    scale, unit = next((pair for pair in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")) if value >= pair[0]),
                       (1.0, ""))  # fmt: skip
    return f"{value / scale:.3g}{unit}"


def outcomes(row: Row, budgets: Sequence[int]) -> dict[str, float]:
    """Measure key -> value; empty for an unfinished run.

    A network with a single exit has the same value at its last exit, at its best exit and for all exits.
    """
    if not is_finished(row):
        return {}
    entry = final_entry(row)
    subnets = final_subnets(row)
    found: dict[str, float | None] = {BEST_SUBNET.key: number(entry.get("best_top1")), **_exit_outcomes(entry)}
    for budget in budgets:
        found[f"macs_{budget}"] = _best_within(subnets, budget)
    if budgets:
        front = [(subnets[i]["macs"], subnets[i]["top1"]) for i in validation_front(subnets, "macs")]
        found["hypervolume"] = hypervolume(front, budgets[-1]) / budgets[-1] if front else None
    return {key: value for key, value in found.items() if value is not None}


def final_entry(row: Row) -> Row:
    """The entry of a run's last step; empty if it is missing."""
    return next((entry for entry in reversed(phase_entries(row)) if entry["name"] == plan_end(row)), {})


def final_subnets(row: Row) -> list[Row]:
    """The subnets that were measured after a run's last step."""
    return subnets_of(final_entry(row))


def best_exit(entry: Row) -> tuple[int, float] | None:
    """Height and test accuracy (%) of the maximal network's best exit on validation."""
    exits = [(measured.get("height"), *_scores(measured)) for measured in entry.get("exits") or []]
    known = [(validation, top1, height) for height, validation, top1 in exits
             if validation is not None and top1 is not None and isinstance(height, int)]  # fmt: skip
    if not known:
        return None
    _, top1, height = max(known, key=lambda scores: scores[0])
    return height, top1


def validation_front(subnets: Sequence[Row], cost: str) -> list[int]:
    """Indices of the subnets on the Pareto front of cost and validation accuracy; each has a test accuracy."""
    scores = [(number(subnet.get(cost)), *_scores(subnet)) for subnet in subnets]
    return pareto_front([(value if top1 is not None else None, validation) for value, validation, top1 in scores])


def _exit_outcomes(entry: Row) -> dict[str, float | None]:
    heights = {measured.get("height"): number(measured.get("top1")) for measured in entry.get("exits") or []}
    exits = {height: top1 for height, top1 in heights.items() if isinstance(height, int)}
    if exits:
        best, ensemble = best_exit(entry), number(entry.get("ensemble_top1"))
        return {LAST_EXIT.key: exits[max(exits)], BEST_EXIT.key: best[1] if best else None, ENSEMBLE.key: ensemble}
    subnets = [subnet for subnet in subnets_of(entry) if not subnet.get("ensemble")]
    maximal = _maximal_top1(subnets)
    single = not any("height" in (subnet.get("arch") or {}) for subnet in subnets)
    return dict.fromkeys([LAST_EXIT.key, *((BEST_EXIT.key, ENSEMBLE.key) if single else ())], maximal)


def _maximal_top1(subnets: Sequence[Row]) -> float | None:
    """Test accuracy of the subnet with the most MACs: the maximal network at the largest resolution."""
    scores = [(number(subnet.get("macs")), number(subnet.get("top1"))) for subnet in subnets]
    known = [(macs, top1) for macs, top1 in scores if macs is not None and top1 is not None]
    return max(known)[1] if known else None


def _best_within(subnets: Sequence[Row], budget: int) -> float | None:
    scores = [(number(subnet.get("macs")), *_scores(subnet)) for subnet in subnets]
    known = [(validation, top1) for macs, validation, top1 in scores
             if macs is not None and macs <= budget and validation is not None and top1 is not None]  # fmt: skip
    return max(known, key=lambda scores: scores[0])[1] if known else None


def _scores(measured: Row) -> tuple[float | None, float | None]:
    """Validation and test accuracy (%)."""
    return number(measured.get("val_top1")), number(measured.get("top1"))
