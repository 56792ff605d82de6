"""Phase `kernel`: Elastic Kernel Size (OFA section 3.3)."""

from __future__ import annotations

from ..space import SearchSpace
from .base import Phase, PhaseStep, StepSettings


class Kernel(Phase):
    """Unlocks all kernel sizes at once."""

    after = ("full",)
    selection_dims = ("ks",)

    def supports(self, space: SearchSpace) -> bool:
        return space.is_elastic("ks")

    def steps(self, space: SearchSpace) -> list[PhaseStep]:
        return [PhaseStep({"ks": space["ks"].values}, StepSettings(epochs=120, lr=0.03, warmup_epochs=5))]
