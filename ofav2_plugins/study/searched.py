"""Search results of a study: the accuracy of the chosen subnet within each budget. Does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..searchers.problem import METRICS
from .outcomes import Measure, amount
from .rows import Row
from .stats import number


def search_measures(rows: Sequence[Row]) -> list[Measure]:
    """The measures of searched runs: the budgets, ascending, and the hypervolume; empty if no run was searched."""
    found = [entry for row in rows if (entry := _search(row)).get("budgets")]
    budgets = sorted({(entry["cost"], budget["budget"]) for entry in found for budget in entry["budgets"]})
    measures = [_within(cost, budget) for cost, budget in budgets]
    if found:
        limit, label = amount(found[0]["max_cost"]), _label(found[0]["cost"])
        text = f"the test accuracy of the measured front, averaged over all budgets up to {limit} {label}"
        measures.append(Measure("search_hypervolume", "Hypervolume", text))
    return measures


def search_outcomes(row: Row) -> dict[str, float]:
    """Measure key -> value of a searched run; budgets that no architecture satisfies are omitted."""
    entry = _search(row)
    found = {_key(entry["cost"], each["budget"]): number(each.get("top1")) for each in entry.get("budgets") or []}
    found["search_hypervolume"] = number(entry.get("hypervolume"))
    return {key: value for key, value in found.items() if value is not None}


def chosen_subnets(row: Row) -> list[dict[str, Any]]:
    """The chosen subnets of a searched run: one per budget that an architecture satisfies."""
    entry = _search(row)
    return [{**each, "folder": entry["folder"]} for each in entry.get("budgets") or [] if "arch" in each]


def search_error(row: Row) -> str | None:
    """The reason why a run's search failed."""
    return _search(row).get("error")


def _search(row: Row) -> dict[str, Any]:
    return row.get("search") or {}


def _within(cost: str, budget: float) -> Measure:
    short = f"≤ {amount(budget)}".replace(" ", "\N{NO-BREAK SPACE}")
    text = f"the selected subnet within {amount(budget)} {_label(cost)}"
    return Measure(_key(cost, budget), f"{short} {_label(cost)}", text)


def _key(cost: str, budget: float) -> str:
    return f"search_{cost}_{budget:g}"


def _label(cost: str) -> str:
    return {"memory_mib": "MiB"}.get(cost, METRICS[cost].label if cost in METRICS else cost)
