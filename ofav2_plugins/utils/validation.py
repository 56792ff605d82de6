"""Checks of values that a user gives, and how they are quoted in messages."""

from __future__ import annotations

import math
import reprlib
from numbers import Integral, Real

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 80


def is_integer(value: object) -> bool:
    """Whether `value` is an integer of Python or numpy; True and False are not."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether `value` is a finite real number of Python or numpy; True and False are not."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def short(value: object) -> str:
    """`repr(value)`, shortened to what fits into a one-line message."""
    return _REPR.repr(value)
