"""Teacher `none`: no teacher. The null object."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Teacher


class NoTeacher(Teacher):
    """No teacher: training uses only the labels."""

    def source(self, finished: Sequence[str]) -> str | None:
        return None
