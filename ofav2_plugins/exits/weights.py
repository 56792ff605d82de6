"""Weights of the exits in losses and in the ensemble's output (AEP, arXiv 2301.12168). No torch here."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..errors import UserError
from ..utils.validation import is_number

STRATEGIES = {"ASC": ("ASC", "ASC"), "DESC": ("DESC", "DESC"), "MIX": ("DESC", "ASC"), "UNIF": ("UNIF", "UNIF")}
"""AEP's strategies as (weights of the losses, weights of the outputs)."""


def only_trained(weights: Sequence[float], exits: Sequence[int], trained: Collection[int]) -> tuple[float, ...]:
    """Set the weights of `exits` that are not in `trained` to 0, and scale the others to sum to 1.

    Raises:
        UserError: No trained exit has a nonzero weight.
    """
    kept = [weight if number in trained else 0.0 for number, weight in zip(exits, weights, strict=True)]
    if sum(kept) == 0:
        raise UserError(f"exit weights {list(weights)} are all zero for the exits that are trained: {sorted(trained)}")
    return tuple(weights) if kept == list(weights) else tuple(weight / sum(kept) for weight in kept)


def exit_weights(weights: str | Sequence[float], n_exits: int) -> tuple[float, ...]:
    """The weights of `n_exits` exits, the earliest first; they sum to 1. A single exit always has weight 1.

    Args:
        weights: "ASC" (i / (1 + .. + n)), "DESC" (its reverse), "UNIF" (1 / n), or one number per exit.
        n_exits: Number of exits.

    Raises:
        UserError: An unknown strategy, a wrong count, an invalid or negative number, or a sum other than 1.
    """
    if n_exits == 1:
        return (1.0,)
    if isinstance(weights, str):
        total = n_exits * (n_exits + 1) // 2
        ascending = tuple(i / total for i in range(1, n_exits + 1))
        named = {"ASC": ascending, "DESC": ascending[::-1], "UNIF": (1 / n_exits,) * n_exits}
        if weights not in named:
            raise UserError(f"exit weights must be one of {list(named)} or numbers, but got {weights!r}")
        return named[weights]
    if len(weights) != n_exits:
        raise UserError(f"exit weights must be {n_exits} numbers, one per exit, but got {list(weights)}")
    if not all(is_number(weight) and weight >= 0 for weight in weights) or abs(sum(weights) - 1) > 1e-6:
        raise UserError(f"exit weights must be numbers of at least 0 and sum to 1, but got {list(weights)}")
    return tuple(weights)
