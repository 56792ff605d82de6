"""Teacher `progressive` (OFAv2 section 3.4): the maximal network of the step just finished teaches the next."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Teacher


class Progressive(Teacher):
    """The maximal network extracted from the step just finished teaches the next one (OFAv2)."""

    def source(self, finished: Sequence[str]) -> str | None:
        return finished[-1] if finished else None
