"""A static network in place of a supernet: for the training engine, its space has a single architecture."""

from __future__ import annotations

import copy
import random

from torch import Tensor, nn

from ..errors import UserError
from ..models.layers.accelerate import accelerate
from ..models.subnet import Subnet
from ..phases.base import Phase, PhaseStep, StepSettings
from ..space import Arch, SearchSpace


class FixedNetwork(nn.Module):
    """A static network with the methods of a supernet that training and evaluation call.

    Its space has no elastic dimension, so its only architecture is `{}`.

    Args:
        net: The network.
    """

    space = SearchSpace(())

    def __init__(self, net: Subnet):
        super().__init__()
        self.net = accelerate(net)

    def forward(self, x: Tensor) -> Tensor:  # [N, 3, R, R] -> [N, n_classes]
        return self.net.forward_exits(x)[-1]

    def forward_exits(self, x: Tensor) -> list[Tensor]:
        """The logits [N, n_classes] of every exit."""
        return self.net.forward_exits(x)

    def set_active_subnet(self, **arch: object) -> None:
        """Raises UserError for anything but the empty architecture."""
        if arch:
            raise UserError(f"a static network has no elastic dimension, but got {sorted(arch)}")

    def get_active_subnet(self) -> Subnet:
        """A copy of the network."""
        return copy.deepcopy(self.net)

    get_multi_exit_subnet = get_active_subnet

    def set_dropout(self, rate: float) -> None:
        """Set the rate of every dropout layer; a network without dropout layers stays unchanged."""
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = rate


class FineTune(Phase):
    """The phase that trains a static network with the loss of its last exit or of all exits."""

    name = "finetune"

    def __init__(self, settings: StepSettings, all_exits: bool, distills: bool):
        self.step_settings, self.multi_exit_loss, self.distills = settings, all_exits, distills

    def steps(self, space: SearchSpace) -> list[PhaseStep]:
        return [PhaseStep({}, self.step_settings)]

    def archs(self, space: SearchSpace, rng: random.Random, n: int) -> list[Arch]:
        return [{} for _ in range(n)]
