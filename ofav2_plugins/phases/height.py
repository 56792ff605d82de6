"""Phase `height`: Elastic Height (OFAv2 section 3.3), the exit at which the network ends."""

from __future__ import annotations

from ..space import SearchSpace
from .base import Phase, PhaseStep, StepSettings, one_by_one, phase_steps


class Height(Phase):
    """Unlocks the exits one by one from the last to the first."""

    after = ("full", "kernel", "level")

    def supports(self, space: SearchSpace) -> bool:
        return "height" in space

    def steps(self, space: SearchSpace) -> list[PhaseStep]:
        return phase_steps(
            "height",
            one_by_one(space["height"].values),
            [
                StepSettings(epochs=25, lr=0.001875, subnets_per_step=2),
                StepSettings(epochs=60, lr=0.00375, warmup_epochs=5, subnets_per_step=2),
                StepSettings(epochs=90, lr=0.0075, warmup_epochs=5, subnets_per_step=2),
                StepSettings(epochs=120, lr=0.015, warmup_epochs=5, subnets_per_step=2),
            ],
        )
