"""Teacher `fixed` (OFA section 3.3): the network of the first step teaches every later one."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Teacher


class Fixed(Teacher):
    """The maximal network of the first step teaches every later phase (OFA)."""

    def source(self, finished: Sequence[str]) -> str | None:
        return finished[0] if finished else None
