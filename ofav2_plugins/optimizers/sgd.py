"""Optimizer `sgd`: stochastic gradient descent with Nesterov momentum, by `torch.optim.SGD` (OFA, OFAv2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from .base import Optimizer
from .schedules import GAMMA, MILESTONES, ScheduleName, check_schedule, check_weight_decay, make_scheduler


class SGD(Optimizer):
    """SGD with Nesterov momentum; no weight decay on batch norms and biases.

    Args:
        momentum: Momentum; 0 for none.
        weight_decay: Weight decay.
        schedule: "cosine", "step" or "constant", after the warm-up.
        milestones: Fractions of the epochs after which "step" lowers the rate.
        gamma: Factor by which "step" lowers it.
    """

    def __init__(
        self,
        momentum: float = 0.9,
        weight_decay: float = 3e-5,
        schedule: ScheduleName = "cosine",
        milestones: Sequence[float] = MILESTONES,
        gamma: float = GAMMA,
    ):
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, but got {momentum}")
        check_weight_decay(weight_decay)
        check_schedule(milestones, gamma)
        self.momentum, self.weight_decay = momentum, weight_decay
        self.schedule, self.milestones, self.gamma = schedule, milestones, gamma

    def build(self, groups: list[dict[str, Any]], lr: float) -> torch.optim.SGD:
        """Torch's fused kernel, one pass over each parameter; it requires all momentum buffers from the start."""
        momentum = self.momentum
        optimizer = torch.optim.SGD(
            groups, lr=lr, momentum=momentum, weight_decay=self.weight_decay, nesterov=momentum > 0, fused=True
        )
        if momentum > 0:
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            optimizer.state.update({p: {"momentum_buffer": torch.zeros_like(p)} for p in parameters})
        return optimizer

    def scheduler(self, optimizer: torch.optim.Optimizer, warmup: int, batches: int) -> LRScheduler:
        return make_scheduler(self.schedule, optimizer, warmup, batches, self.milestones, self.gamma)
