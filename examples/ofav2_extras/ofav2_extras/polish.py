"""Phase `polish`: trains the unlocked space once more at a small learning rate."""

from ofav2_plugins.phases.base import Phase, PhaseStep, StepSettings
from ofav2_plugins.space import SearchSpace


class Polish(Phase):
    """Trains the whole unlocked space once more at a small learning rate; unlocks nothing."""

    after = ("full", "kernel", "level", "height", "depth", "width")

    def steps(self, space: SearchSpace) -> list[PhaseStep]:
        return [PhaseStep({}, StepSettings(epochs=10, lr=0.001, subnets_per_step=2))]
