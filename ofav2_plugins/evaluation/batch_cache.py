"""Batches that are used again and again while subnets are measured, prepared once and kept within a memory limit."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

CACHE_BYTES = 2**30
"""The most memory that the batches of one `BatchCache` take."""


class BatchCache:
    """Lists of batches by what they contain and their resolution.

    Batches of other resolutions make room for new ones. Batches that do not fit even then are prepared again for each
    use, so the memory is bounded for any dataset.

    Args:
        limit: The most bytes.
    """

    def __init__(self, limit: int = CACHE_BYTES):
        self.limit = limit
        self._held: dict[tuple[Hashable, int], tuple[int, list[Any]]] = {}

    def get(self, what: Hashable, resolution: int, n_images: int, make: Callable[[], Iterable[Any]]) -> Iterable[Any]:
        """The batches that `make` prepares, cached if they fit.

        Args:
            what: What the batches contain, such as a split.
            resolution: Of the images, in pixels.
            n_images: Images [3, resolution, resolution] in all batches together.
            make: Prepares the batches.
        """
        key, size = (what, resolution), n_images * 3 * resolution**2 * 4
        if key in self._held:
            return self._held[key][1]
        for other in [held for held in self._held if held[1] != resolution]:
            if self.n_bytes + size > self.limit:
                del self._held[other]
        if self.n_bytes + size > self.limit:
            return make()
        batches = list(make())
        self._held[key] = (size, batches)
        return batches

    @property
    def n_bytes(self) -> int:
        """Bytes of the cached images."""
        return sum(size for size, _ in self._held.values())

    def clear(self) -> None:
        """Drop everything."""
        self._held.clear()
