"""Checks user-supplied values and formats them for messages."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from ..errors import UserError

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 80


def is_integer(value: object) -> bool:
    """Whether `value` is a Python or NumPy integer; True and False are not."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether `value` is a finite real Python or NumPy number; True and False are not."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def elastic_values(name: str, values: Any, odd: bool = False) -> tuple[int, ...]:
    """The values of an elastic dimension, ascending: one or more distinct (odd) integers of at least 1.

    Raises:
        UserError: The values are invalid; `name` is their name in the message.
    """
    valid = isinstance(values, Sequence) and all(is_integer(v) and v >= 1 and (v % 2 or not odd) for v in values)
    if not valid or not values or len(set(values)) != len(values):
        kind = "odd integers" if odd else "integers"
        raise UserError(f"{name} must be a list of one or more distinct {kind} of at least 1, but got {values!r}")
    return tuple(sorted(map(int, values)))


def short(value: object) -> str:
    """`repr(value)`, shortened for a one-line message."""
    return _REPR.repr(value)
