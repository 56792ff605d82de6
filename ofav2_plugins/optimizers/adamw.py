"""Optimizer `adamw`: Adam with decoupled weight decay (arXiv 1711.05101), by `torch.optim.AdamW`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from .base import Optimizer
from .schedules import GAMMA, MILESTONES, ScheduleName, check_schedule, check_weight_decay, make_scheduler


class AdamW(Optimizer):
    """AdamW; no weight decay on batch norms and biases. It needs lower learning rates than SGD.

    Args:
        beta1: Decay of the mean of the gradients.
        beta2: Decay of the mean of the squared gradients.
        eps: Added to the denominator for numerical stability.
        weight_decay: Weight decay.
        schedule: "cosine", "step" or "constant", after the warm-up.
        milestones: Fractions of the epochs after which "step" lowers the rate.
        gamma: Factor by which "step" lowers it.
    """

    def __init__(
        self,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        schedule: ScheduleName = "cosine",
        milestones: Sequence[float] = MILESTONES,
        gamma: float = GAMMA,
    ):
        for name, beta in (("beta1", beta1), ("beta2", beta2)):
            if not 0 <= beta < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, but got {beta}")
        if not 0 < eps < math.inf:
            raise ValueError(f"eps must be above 0 and finite, but got {eps}")
        check_weight_decay(weight_decay)
        check_schedule(milestones, gamma)
        self.beta1, self.beta2, self.eps, self.weight_decay = beta1, beta2, eps, weight_decay
        self.schedule, self.milestones, self.gamma = schedule, milestones, gamma

    def build(self, groups: list[dict[str, Any]], lr: float) -> torch.optim.AdamW:
        """Torch's fused kernel: one pass over each parameter."""
        betas = (self.beta1, self.beta2)
        return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=self.eps, weight_decay=self.weight_decay, fused=True)

    def scheduler(self, optimizer: torch.optim.Optimizer, warmup: int, batches: int) -> LRScheduler:
        return make_scheduler(self.schedule, optimizer, warmup, batches, self.milestones, self.gamma)
