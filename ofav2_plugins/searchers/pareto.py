"""Pareto fronts and their hypervolume. Objectives are minimised."""

from __future__ import annotations

import numpy as np


def nondominated(values: np.ndarray) -> np.ndarray:
    """Boolean mask [N] of the non-dominated rows of [N, M]; only the first of equal rows is included."""
    order = np.lexsort(values.T[::-1])  # by the first objective, ties by the next
    front, found = np.empty_like(values), 0
    kept = np.zeros(len(values), dtype=bool)
    for row in order:
        if not (front[:found] <= values[row]).all(axis=1).any():
            front[found], kept[row] = values[row], True
            found += 1
    return kept


def hypervolume(values: np.ndarray, reference: np.ndarray) -> float:
    """The exact volume that rows [N, M] dominate up to a reference point [M].

    Raises:
        ImportError: There are more than two objectives, and moocore (a dependency of pymoo) is not installed.
    """
    values = values[(values < reference).all(axis=1)]
    if len(values) == 0:
        return 0.0
    if values.shape[1] == 1:
        return float(reference[0] - values.min())
    if values.shape[1] > 2:
        from moocore import hypervolume as exact

        return float(exact(values, ref=reference))
    front = values[nondominated(values)]
    front = front[np.argsort(front[:, 0])]  # ascending in the first objective, so descending in the second
    widths = np.append(front[1:, 0], reference[0]) - front[:, 0]
    return float((widths * (reference[1] - front[:, 1])).sum())
