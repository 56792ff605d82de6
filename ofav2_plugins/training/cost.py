"""Training compute in multiply-accumulates (MACs), for comparing the arms of a study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..data.batches import sample_resolution, steps_per_epoch
from ..evaluation.cost import count_macs
from ..models.supernet import Supernet
from ..recipes.schema import Recipe
from ..utils.seeding import python_rng
from .plan import PlannedStep

TRAINING_COST = 3
"""Cost of a forward plus a backward pass, in forward passes: the backward pass computes two gradients."""

DRAWS = 12
"""Number of optimizer steps whose architectures are used to estimate those of all steps."""


def training_macs(
    net: Supernet,
    planned: PlannedStep,
    recipe: Recipe,
    n_images: int,
    resolutions: Sequence[int],
    seed: int,
) -> int:
    """MACs spent training one step of the plan, including the teacher, excluding best-epoch selection.

    Exact if every optimizer step trains the same network; otherwise estimated from the architectures of `DRAWS` steps.
    Updates of the weights, by the optimizer or as a moving average, are not counted.

    Args:
        net: The supernet; its weights do not matter; its active architecture is changed.
        planned: The step.
        recipe: The recipe, for its batch size.
        n_images: Training images.
        resolutions: The resolutions, weighted by how often the batches draw them.
        seed: The run's seed.
    """
    epochs = planned.settings.epochs + planned.settings.warmup_epochs
    steps = [(epoch, step) for epoch in range(epochs) for step in range(steps_per_epoch(n_images, recipe.batch_size))]
    drawn = Counter(sample_resolution(resolutions, seed, planned.name, *where) for where in steps)
    net.set_max_net()
    largest = {r: count_macs(net.get_multi_exit_subnet(preserve_weight=False).eval(), r) for r in drawn}
    middle = sorted(drawn)[len(drawn) // 2]
    largest_of_all = sum(largest[resolution] * count for resolution, count in drawn.items())
    students, counted = 0, steps[:: max(1, len(steps) // DRAWS)]
    known: dict[tuple[str, bool], int] = {}
    for where in counted:
        rng = python_rng(seed, planned.name, *where, "archs")
        for i, arch in enumerate(planned.phase.archs(planned.space, rng, planned.settings.subnets_per_step)):
            every_exit = planned.phase.multi_exit_loss or (planned.phase.inplace_distillation and i == 0)
            key = (repr(arch), every_exit)
            if key not in known:
                net.set_active_subnet(**arch)
                student = net.get_multi_exit_subnet if every_exit else net.get_active_subnet
                known[key] = count_macs(student(preserve_weight=False).eval(), middle)
            students += known[key]
    # The MACs of all networks grow with the resolution at nearly the same rate as those of the largest network.
    per_image = TRAINING_COST * students / len(counted) * largest_of_all / largest[middle]
    teacher_logits = largest_of_all if planned.teacher is not None else 0
    return round((per_image + teacher_logits) * min(recipe.batch_size, n_images))
