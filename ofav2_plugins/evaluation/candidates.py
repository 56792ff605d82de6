"""The subnets to measure: the uniform grid of the unlocked space, or a seeded sample of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from ..space import Arch, SearchSpace, arch_key
from ..utils.seeding import python_rng

HEIGHT = "height"


@dataclass(frozen=True)
class Candidate:
    """A network to measure: an architecture at a resolution, with its last exit or the ensemble of all exits."""

    arch: Arch
    resolution: int
    ensemble: bool = False

    @property
    def trunk(self) -> tuple[str, int, bool]:
        """Equal for candidates that differ only in height: one pass through one network measures all of them."""
        trunk = {name: value for name, value in self.arch.items() if name != HEIGHT}
        return arch_key(trunk), self.resolution, self.ensemble


def candidates(
    space: SearchSpace,
    resolutions: Sequence[int],
    *,
    full: Sequence[str] = (),
    ensemble: bool = False,
    limit: int | None = None,
    seed_parts: Sequence[object] = (),
) -> list[Candidate]:
    """The uniform grid of the unlocked space at its extreme resolutions, or a seeded sample of at most `limit` of it.

    Args:
        space: The unlocked space.
        resolutions: All elastic resolutions; the ensemble of the full phase is measured at each of them.
        full: Dimensions whose unlocked values all appear, not only the extremes.
        ensemble: Measure the ensemble of all exits instead of the last one.
        limit: Maximum number of candidates; the maximal network at the largest resolution is always included.
        seed_parts: Seed of the draw.
    """
    sizes = sorted(set(resolutions)) if ensemble else sorted({min(resolutions), max(resolutions)})
    grid = [Candidate(arch, r, ensemble) for r, arch in itertools.product(sizes, space.grid(full))]
    if limit is None or len(grid) <= limit:
        return grid
    largest = grid[-1]  # the grid ascends in every dimension
    drawn = python_rng(*seed_parts).sample(range(len(grid) - 1), limit - 1)
    return [grid[i] for i in sorted(drawn)] + [largest]


def final_candidates(
    space: SearchSpace, resolutions: Sequence[int], *, trunks: int | None = None, seed_parts: Sequence[object] = ()
) -> list[Candidate]:
    """The full uniform grid of the unlocked space at the smallest, middle and largest resolution (OFAv2 section 4).

    Args:
        space: The unlocked space.
        resolutions: All elastic resolutions.
        trunks: Maximum number of trunks (everything except the height) to measure, each at every unlocked height; None
            measures all of them. The maximal one at the largest resolution is always included. Each dimension is drawn
            from its own random stream, so arms with and without early exits measure the same trunks.
        seed_parts: Seed of the draw.
    """
    ascending = sorted(set(resolutions))
    sizes = sorted({ascending[0], ascending[len(ascending) // 2], ascending[-1]})
    heights = space.unlocked_values(HEIGHT) if HEIGHT in space else ()
    bodies = space.restrict({HEIGHT: heights[-1:]}) if heights else space
    every = [dim.name for dim in space.dims]
    grid = [Candidate(arch, r) for r, arch in itertools.product(sizes, bodies.grid(every))]
    if trunks is not None and trunks < len(grid):
        drawn = _drawn_trunks(bodies, sizes, trunks, seed_parts)
        grid = [candidate for candidate in grid if candidate.trunk in drawn]
    if not heights:
        return grid
    return [Candidate({**c.arch, HEIGHT: height}, c.resolution) for c in grid for height in heights]


def _drawn_trunks(space: SearchSpace, sizes: Sequence[int], n: int, seed_parts: Sequence[object]) -> set[object]:
    """`n` distinct trunks of the uniform grid, including the maximal one at the largest resolution."""
    streams = {dim.name: python_rng(*seed_parts, dim.name) for dim in space.dims}
    resolution = python_rng(*seed_parts, "resolution")
    drawn: set[object] = {Candidate(space.max_arch(), sizes[-1]).trunk}
    while len(drawn) < n:
        arch = {
            dim.name: dim.uniform(streams[dim.name].choice(dim.choices(space.unlocked_values(dim.name))))
            for dim in space.dims
        }
        drawn.add(Candidate(arch, resolution.choice(sizes)).trunk)
    return drawn


def by_trunk(listed: Sequence[Candidate]) -> list[list[Candidate]]:
    """Groups of consecutive candidates that differ only in height, in order."""
    return [list(group) for _, group in itertools.groupby(listed, key=lambda candidate: candidate.trunk)]
