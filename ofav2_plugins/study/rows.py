"""Reads the rows of results.json; each row is a run, that is, one arm with one seed. Does not import torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ..errors import UserError
from .stats import number

Row = Mapping[str, Any]


def phase_entries(row: Row) -> list[Row]:
    """The finished phases of a run, in execution order."""
    return list(row.get("phases") or [])


def subnets_of(entry: Row) -> list[Row]:
    """The subnets that were measured after a phase."""
    return list(entry.get("subnets") or [])


def accuracies(row: Row) -> dict[str, float]:
    """Phase -> test accuracy (%) of the subnet best on validation; phases without one are omitted."""
    best = {entry["name"]: number(entry.get("best_top1")) for entry in phase_entries(row)}
    return {name: top1 for name, top1 in best.items() if top1 is not None}


def plan_of(row: Row) -> list[str]:
    """The steps of a run's plan, then any phases that the plan does not name."""
    return list(dict.fromkeys([*(row.get("steps") or []), *(entry["name"] for entry in phase_entries(row))]))


def plan_end(row: Row) -> str | None:
    """The last step of a run's plan; None if it is unknown."""
    last: str | None = (row.get("steps") or [None])[-1]
    return last


def is_finished(row: Row) -> bool:
    """Whether a run finished its plan and has a final accuracy; it may have failed in a later session."""
    return plan_end(row) in accuracies(row)


def has_failed(row: Row) -> bool:
    """Whether a run ended with an error before the end of its plan."""
    return bool(row.get("error")) and not is_finished(row)


def phase_order(plans: Iterable[Sequence[str]]) -> list[str]:
    """Merge the steps of several plans into one order.

    The order agrees with every plan. Steps that no plan orders stay next to their preceding steps, and steps of
    earlier plans come first. If plans contradict each other, the earlier plan wins.
    """
    listed = [list(dict.fromkeys(plan)) for plan in plans]
    remaining = dict.fromkeys(step for plan in listed for step in plan)
    pairs = {pair for plan in listed for pair in pairwise(plan)}
    order: list[str] = []
    while remaining:
        blocked = {after for before, after in pairs if before in remaining}
        ready = [step for step in remaining if step not in blocked] or list(remaining)[:1]
        following = [step for step in ready if order and (order[-1], step) in pairs]
        order.append((following or ready)[0])
        del remaining[order[-1]]
    return order


def distinct_rows(rows: Iterable[Row]) -> list[Row]:
    """The rows without duplicates: a run that is listed twice counts as one seed.

    Raises:
        UserError: Two rows with the same arm and seed differ.
    """
    distinct: dict[tuple[str, str], Row] = {}
    for row in rows:
        first = distinct.setdefault((row["arm"], str(row.get("seed"))), row)
        if first is not row and _text(first) != _text(row):
            raise UserError(
                f"each arm and seed must have one row, but arm {row['arm']!r} has two different rows with seed "
                f"{row.get('seed')}; remove one from results.json, or give it its own seed"
            )
    return list(distinct.values())


def _text(row: Row) -> str:
    return json.dumps(row, sort_keys=True)  # as text, in which NaN equals NaN


def with_plans(rows: Sequence[Row]) -> list[Row]:
    """The rows, each with `steps`.

    The plan of a row without `steps` ends with its last phase, unless other rows have phases after that one; then the
    longest of these continuations is added. The plan of a failed row without `steps` is unknown.
    """
    names = [[entry["name"] for entry in phase_entries(row)] for row in rows]
    found = []
    for row, own in zip(rows, names, strict=True):
        if not row.get("steps") and own:
            rests = [other[other.index(own[-1]) + 1 :] for other in names if own[-1] in other]
            rest = max(rests, key=len)
            row = {**row, "steps": [*own, *rest] if rest or not row.get("error") else []}
        found.append(row)
    return found
