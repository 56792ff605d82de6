"""Phase `level`: Elastic Level (OFAv2 section 3.3), which of the parallel blocks are active."""

from __future__ import annotations

from ..space import SearchSpace
from .base import Phase, PhaseStep, StepSettings, phase_steps


class Level(Phase):
    """Unlocks the numbers of active parallel blocks: first all and all but one, then any."""

    after = ("full", "kernel")

    def supports(self, space: SearchSpace) -> bool:
        return "level" in space

    def steps(self, space: SearchSpace) -> list[PhaseStep]:
        sizes = space["level"].values
        return phase_steps(
            "level",
            list(dict.fromkeys((sizes[-2:], sizes))),  # with two blocks at a position, both steps are the same
            [
                StepSettings(epochs=25, lr=0.0025, subnets_per_step=2),
                StepSettings(epochs=120, lr=0.0075, warmup_epochs=5, subnets_per_step=2),
            ],
        )
