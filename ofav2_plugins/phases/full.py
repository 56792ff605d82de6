"""Phase `full`: the maximal network with elastic resolution; with early exits all of them are trained (AEP)."""

from __future__ import annotations

import random

from ..space import Arch, SearchSpace
from .base import Phase, PhaseStep, StepSettings


class Full(Phase):
    """The maximal network with all its exits, at elastic resolutions."""

    distills = False
    multi_exit_loss = True

    def steps(self, space: SearchSpace) -> list[PhaseStep]:
        return [PhaseStep({}, StepSettings(epochs=180, lr=0.08, dropout=0.2))]

    def archs(self, space: SearchSpace, rng: random.Random, n: int) -> list[Arch]:
        return [space.max_arch()]
