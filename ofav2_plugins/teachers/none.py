"""Teacher `none`: nobody teaches. The null object."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Teacher


class NoTeacher(Teacher):
    """Nobody teaches: the labels alone."""

    def source(self, finished: Sequence[str]) -> str | None:
        return None
