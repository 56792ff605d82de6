"""Phase `sandwich`: unlocks everything at once, with the sandwich rule and in-place distillation (BigNAS).

Source: BigNAS (arXiv 2003.11142) section 3. It replaces the phases of progressive shrinking.
"""

from __future__ import annotations

import random

from ..space import Arch, SearchSpace
from .base import Phase, PhaseStep, StepSettings


class Sandwich(Phase):
    """Unlocks every dimension at once; each step trains the largest, the smallest and random subnets (BigNAS)."""

    after = ("full",)
    distills = False
    inplace_distillation = True
    whole_grid = False

    def steps(self, space: SearchSpace) -> list[PhaseStep]:
        unlocks = {dim.name: dim.values for dim in space.dims if len(dim.values) > 1}
        return [PhaseStep(unlocks, StepSettings(epochs=180, lr=0.08, subnets_per_step=4))]

    def archs(self, space: SearchSpace, rng: random.Random, n: int) -> list[Arch]:
        drawn = [space.sample(rng) for _ in range(max(0, n - 2))]
        return [space.max_arch(), *drawn, space.min_arch()][: max(n, 2)]
