"""Learning-rate schedules per batch: cosine, step, constant; each after a warm-up at the constant base rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch.optim.lr_scheduler import LambdaLR

ScheduleName = Literal["cosine", "step", "constant"]

MILESTONES, GAMMA = (0.5, 0.75), 0.1


def make_scheduler(
    name: ScheduleName,
    optimizer: torch.optim.Optimizer,
    warmup: int,
    batches: int,
    milestones: Sequence[float] = MILESTONES,
    gamma: float = GAMMA,
) -> LambdaLR:
    """Create a schedule by name, as a factor of the base rate that depends only on the batch number.

    Args:
        name: "cosine" goes down to 0 (SGDR, arXiv 1608.03983, without restarts), "step" multiplies the rate by `gamma`
            at each milestone, "constant" keeps it.
        optimizer: The optimizer, with its base rate.
        warmup: Batches at the base rate before the schedule starts.
        batches: Batches of the schedule.
        milestones: Fractions of the schedule, in 0..1.
        gamma: Factor at each milestone.
    """

    def factor(batch: int) -> float:
        done = batch - warmup
        if done < 0 or name == "constant":
            return 1.0
        if name == "step":
            return gamma ** sum(done >= milestone * batches for milestone in milestones)
        return 0.5 * (1 + math.cos(math.pi * done / batches))

    return LambdaLR(optimizer, factor)


def check_schedule(milestones: Sequence[float], gamma: float) -> None:
    """Raises ValueError if the settings of the schedule "step" are out of range."""
    if not all(0 <= milestone <= 1 for milestone in milestones):
        raise ValueError(f"milestones must be fractions of the schedule in 0..1, but got {list(milestones)}")
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma must be above 0 and at most 1, but got {gamma}")


def check_weight_decay(weight_decay: float) -> None:
    """Raises ValueError if the weight decay is negative, infinite or not a number."""
    if not 0 <= weight_decay < math.inf:
        raise ValueError(f"weight_decay must be at least 0 and finite, but got {weight_decay}")
