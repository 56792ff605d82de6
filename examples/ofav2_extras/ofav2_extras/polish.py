"""Phase `polish`: a last pass over everything that is open, at a small rate."""

from ofav2_plugins.phases.base import Phase, PhaseStep, StepSettings
from ofav2_plugins.space import SearchSpace


class Polish(Phase):
    """Trains the whole open space once more at a small rate; unlocks nothing."""

    after = ("full", "kernel", "level", "height", "depth", "width")

    def steps(self, space: SearchSpace) -> list[PhaseStep]:
        return [PhaseStep({}, StepSettings(epochs=10, lr=0.001, subnets_per_step=2))]
