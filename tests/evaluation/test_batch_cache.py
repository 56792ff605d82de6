"""Cached batches: prepared once, dropped for other resolutions, never beyond the limit."""

from __future__ import annotations

import torch
from torch import Tensor

from ofav2_plugins.evaluation.batch_cache import BatchCache


class Source:
    """Prepares two batches of 4 images and counts how often."""

    def __init__(self, resolution: int):
        self.resolution, self.times = resolution, 0

    def __call__(self):
        self.times += 1
        return (torch.full((4, 3, self.resolution, self.resolution), float(i)) for i in range(2))


def means(batches) -> list[float]:
    return [batch.mean().item() for batch in batches]


def n_bytes(batches: list[Tensor]) -> int:
    return sum(batch.numel() * batch.element_size() for batch in batches)


def test_batches_are_prepared_once_while_they_fit():
    small, large = Source(8), Source(16)
    cache = BatchCache(limit=2**20)
    for _ in range(3):
        assert means(cache.get("validation", 8, 8, small)) == [0, 1]
        assert means(cache.get("validation", 16, 8, large)) == [0, 1]
    assert (small.times, large.times) == (1, 1)
    assert cache.n_bytes == n_bytes([*small(), *large()])
    cache.clear()
    assert cache.n_bytes == 0


def test_other_resolutions_make_room_and_the_limit_is_kept():
    small, large = Source(8), Source(16)
    limit = n_bytes([*large()])
    cache = BatchCache(limit)
    cache.get("validation", 8, 8, small)
    for times in (2, 2):  # one call above
        assert means(cache.get("validation", 16, 8, large)) == [0, 1]
        assert large.times == times and cache.n_bytes == limit
    for times in (3, 4):  # the same resolution does not make room: prepared for each use
        assert means(cache.get("test", 16, 8, large)) == [0, 1]
        assert large.times == times and cache.n_bytes == limit
