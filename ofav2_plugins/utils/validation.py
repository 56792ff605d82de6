"""What counts as a number where a user gives one: Python's and numpy's, but no boolean and no NaN."""

from __future__ import annotations

import math
from numbers import Integral, Real


def is_integer(value: object) -> bool:
    """Whether `value` is an integer; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether `value` is a finite real number; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
