"""Phase `depth`: Elastic Depth (OFA section 3.3)."""

from __future__ import annotations

from ..space import SearchSpace
from .base import Phase, PhaseStep, StepSettings, one_by_one, phase_steps


class Depth(Phase):
    """Unlocks the depths of the stages one by one, starting with the deepest."""

    after = ("full", "kernel", "level", "height")

    def supports(self, space: SearchSpace) -> bool:
        return space.is_elastic("d")

    def steps(self, space: SearchSpace) -> list[PhaseStep]:
        return phase_steps(
            "d",
            one_by_one(space["d"].values),
            [
                StepSettings(epochs=25, lr=0.0025, subnets_per_step=2),
                StepSettings(epochs=120, lr=0.0075, warmup_epochs=5, subnets_per_step=2),
            ],
        )
