"""What a training computes, in multiply-accumulates: what makes arms of a study comparable at equal compute."""

from __future__ import annotations

from collections.abc import Sequence

from .data.batches import steps_per_epoch
from .evaluate import count_macs
from .pipeline import PlannedStep
from .recipes import Recipe
from .seeding import python_rng
from .supernet import Supernet

TRAINING_COST = 3
"""A forward and a backward pass, in forward passes: the backward pass computes two gradients."""

DRAWS = 12
"""Optimiser steps whose architectures stand for all of them."""


def training_macs(
    net: Supernet, planned: PlannedStep, recipe: Recipe, n_images: int, resolutions: Sequence[int], seed: int
) -> int:
    """The multiply-accumulates of training a step of the plan, teacher included, choosing the best epoch not.

    Args:
        net: The supernet; its weights do not matter, its active architecture changes.
        planned: The step.
        recipe: Its batch size counts.
        n_images: Training images.
        resolutions: Drawn uniformly, as in training.
        seed: Of the draw; the result is the mean over `DRAWS` of them.
    """
    rng = python_rng(seed, planned.name, "compute")
    per_image = 0
    for _ in range(DRAWS):
        resolution = rng.choice(list(resolutions))
        for arch in planned.phase.archs(planned.space, rng, planned.settings.subnets_per_step):
            net.set_active_subnet(**arch)
            student = net.get_multi_exit_subnet if planned.phase.all_exits else net.get_active_subnet
            per_image += TRAINING_COST * count_macs(student(preserve_weight=False).eval(), resolution)
        if planned.teacher is not None:
            net.set_max_net()
            per_image += count_macs(net.get_multi_exit_subnet(preserve_weight=False).eval(), resolution)
    epochs = planned.settings.epochs + planned.settings.warmup_epochs
    batches = epochs * steps_per_epoch(n_images, recipe.batch_size)
    return per_image * batches * min(recipe.batch_size, n_images) // DRAWS
