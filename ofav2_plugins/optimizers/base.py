"""Contract of `ofav2.optimizers`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from ..plugin import Plugin
from .schedules import make_scheduler


class Optimizer(Plugin, ABC):
    """One of torch's optimizers for one step of the plan, and its learning-rate schedule."""

    @abstractmethod
    def build(self, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
        """The optimizer.

        Its state is saved in the step's checkpoint: per parameter, tensors and JSON-able values.

        Args:
            groups: Two parameter groups: the weights, and the parameters that must not decay (batch norms and biases),
                which come with `weight_decay` 0.
            lr: The base learning rate of the step.
        """

    def scheduler(self, optimizer: torch.optim.Optimizer, warmup: int, batches: int) -> LRScheduler:
        """The learning-rate schedule; it is stepped after every batch, and its state must be JSON-able.

        Default: the base rate during warm-up, then a cosine down to 0.

        Args:
            optimizer: The result of `build`.
            warmup: Batches of the warm-up, before the others.
            batches: Batches after the warm-up.
        """
        return make_scheduler("cosine", optimizer, warmup, batches)
