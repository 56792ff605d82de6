"""Cache of batches that are reused while subnets are measured, within a memory limit."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

CACHE_BYTES = 2**30
"""Maximum memory of the batches of one `BatchCache`."""


class BatchCache:
    """Lists of batches by content and resolution.

    Batches of other resolutions are evicted to make room. Batches that still do not fit are prepared again for each
    use, so memory is bounded for any dataset.

    Args:
        limit: Maximum number of bytes.
    """

    def __init__(self, limit: int = CACHE_BYTES):
        self.limit = limit
        self._cached: dict[tuple[Hashable, int], tuple[int, list[Any]]] = {}

    def get(self, what: Hashable, resolution: int, n_images: int, make: Callable[[], Iterable[Any]]) -> Iterable[Any]:
        """The batches that `make` prepares, cached if they fit.

        Args:
            what: Identifies the content of the batches, such as a split.
            resolution: Of the images, in pixels.
            n_images: Images [3, resolution, resolution] in all batches together.
            make: Prepares the batches.
        """
        key, size = (what, resolution), n_images * 3 * resolution**2 * 4
        if key in self._cached:
            return self._cached[key][1]
        for other in [cached for cached in self._cached if cached[1] != resolution]:
            if self.n_bytes + size > self.limit:
                del self._cached[other]
        if self.n_bytes + size > self.limit:
            return make()
        batches = list(make())
        self._cached[key] = (size, batches)
        return batches

    @property
    def n_bytes(self) -> int:
        """Bytes of the cached images."""
        return sum(size for size, _ in self._cached.values())

    def clear(self) -> None:
        """Drop everything."""
        self._cached.clear()
