"""Which subnets are measured: the uniform grid of the unlocked space, or a seeded draw of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from ..space import Arch, SearchSpace
from ..utils.seeding import python_rng


@dataclass(frozen=True)
class Candidate:
    """A network to measure: an architecture at a resolution, with its last exit or the ensemble of all exits."""

    arch: Arch
    resolution: int
    ensemble: bool = False


def candidates(
    space: SearchSpace,
    resolutions: Sequence[int],
    *,
    full: Sequence[str] = (),
    ensemble: bool = False,
    limit: int | None = None,
    seed_parts: Sequence[object] = (),
) -> list[Candidate]:
    """The uniform grid of the open space at its extreme resolutions, or a seeded draw of at most `limit` of it.

    Args:
        space: What is open.
        resolutions: All elastic resolutions; the ensemble of the full phase is measured at each of them.
        full: Dimensions of which all open values appear, not only the extremes.
        ensemble: Measure the ensemble of all exits instead of the last one.
        limit: At most so many; the first of the grid's maximal networks is always among them.
        seed_parts: What the draw depends on.
    """
    sizes = sorted(set(resolutions)) if ensemble else sorted({min(resolutions), max(resolutions)})
    grid = [Candidate(arch, r, ensemble) for r, arch in itertools.product(sizes, space.grid(full))]
    if limit is None or len(grid) <= limit:
        return grid
    largest = grid[-1]  # the grid ascends in every dimension
    drawn = python_rng(*seed_parts).sample(range(len(grid) - 1), limit - 1)
    return [grid[i] for i in sorted(drawn)] + [largest]
