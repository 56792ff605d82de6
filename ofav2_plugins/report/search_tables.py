"""The tables of a study's searches: the accuracy of the chosen subnet within each budget, and the hypervolume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..study.outcomes import Measure
from ..study.searched import chosen_subnets
from ..study.stats import MIN_SEEDS, t_interval
from ..study.summary import Summary
from .data_table import DataTable
from .tables import difference_text


def budget_table(summary: Summary) -> DataTable:
    """Arms by budgets: means with intervals for three or more seeds, otherwise individual runs."""
    rows: list[list[Any]] = []
    for arm in summary.arms:
        runs = [found for (name, _), found in summary.outcomes.items() if name == arm]
        searched = [found for found in runs if any(m.key in found for m in summary.search_measures)]
        if searched:
            cells = [_cell([f[m.key] for f in searched if m.key in f], len(searched)) for m in summary.search_measures]
            rows.append([arm, len(searched), *cells])
    caption = "The selected subnet within each budget: top-1 accuracy on the test set (%), and hypervolume (%)"
    return DataTable("searched", caption, _header(summary.search_measures), rows)


def _cell(values: Sequence[float], seeds: int) -> str | None:
    """Mean and interval of the runs that have a value, or each run's value."""
    if not values:
        return None
    if len(values) < MIN_SEEDS:
        text = ", ".join(f"{value:.2f}" for value in values)
    else:
        low, high = t_interval(values)
        text = f"{sum(values) / len(values):.2f} ({low:.2f} to {high:.2f})"
    return text if len(values) == seeds else f"{text}; {len(values)} of {seeds} seeds"


def difference_table(summary: Summary) -> DataTable:
    """Each arm minus the baseline within each budget, paired by seed."""
    rows: list[list[Any]] = []
    for arm in summary.arms:
        found = [summary.outcome_difference(arm, measure) for measure in summary.search_measures]
        if arm != summary.baseline and any(difference.n for difference in found):
            seeds = max(difference.n for difference in found)
            rows.append([arm, seeds, *(difference_text(each) or None for each in found)])
    caption = f"Difference from {summary.baseline} within each budget, paired by seed (points)"
    return DataTable("searched-differences", caption, _header(summary.search_measures), rows)


def _header(measures: Sequence[Measure]) -> list[str]:
    return ["Arm", "Seeds", *(measure.name for measure in measures)]


_COLUMNS = ["budget", "val_top1", "top1", "macs", "params", "memory_mib", "resolution", "folder", "file"]


def chosen_table(summary: Summary) -> DataTable:
    """The chosen subnet of every run within each budget, with its file."""
    rows = [
        [row["arm"], row.get("seed"), *map(chosen.get, _COLUMNS)]
        for row in summary.rows
        for chosen in chosen_subnets(row)
    ]
    return DataTable("searched-subnets", "The selected subnet within each budget", ["arm", "seed", *_COLUMNS], rows)
