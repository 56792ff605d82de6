"""Estimates the duration of a plan on this machine by timing a few training batches of noise in every step."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric

from .. import registry
from ..data.base import DataSplits
from ..data.batches import steps_per_epoch
from ..evaluation.accuracy import Evaluator
from ..evaluation.candidates import by_trunk
from ..exits.weights import exit_weights
from ..models.batch_norm import fold_bn
from ..models.layers.accelerate import accelerate
from ..models.supernet import Supernet
from ..teachers.base import Teacher
from ..training.losses import Objective
from ..training.plan import PlannedStep
from ..training.run_config import RunConfig
from ..training.trainer import make_optimizer, selection_candidates, train_batch
from ..utils.seeding import forked_torch, python_rng
from .measuring import measured_candidates

BATCHES = 3
"""Timed batches of each step, after one untimed batch."""


@dataclass(frozen=True)
class _Timing:
    train_batch: float
    eval_image: float


def estimate_hours(arm: RunConfig, data: DataSplits, fabric: Fabric) -> dict[str, float]:
    """Step name -> estimated hours for training, selection of the best epoch, and measurement.

    Args:
        arm: The run.
        data: The splits, for their sizes and resolutions.
        fabric: The device.
    """
    net = arm.build(data.n_classes).to(fabric.device).to(memory_format=torch.channels_last)
    evaluator = Evaluator(data, arm.recipe, fabric, arm.seed)
    hours = {}
    plan = arm.plan(net.space)
    for planned in plan:
        timing = _time_step(arm, planned, net, evaluator, data.n_classes, fabric)
        epochs = planned.settings.epochs + planned.settings.warmup_epochs
        batches = epochs * steps_per_epoch(len(data.train), arm.recipe.batch_size)
        calibration = min(arm.recipe.evaluation.bn_images, len(data.train))
        chosen = epochs * len(selection_candidates(planned, evaluator, arm.seed)) * (calibration + len(data.validation))
        trunks = by_trunk(measured_candidates(arm, planned, evaluator, last=planned.name == plan[-1].name))
        measured = len(trunks) * evaluator.images_per_candidate
        hours[planned.name] = (batches * timing.train_batch + (chosen + measured) * timing.eval_image) / 3600
    return hours


def _time_step(
    arm: RunConfig, planned: PlannedStep, net: Supernet, evaluator: Evaluator, n_classes: int, fabric: Fabric
) -> _Timing:
    """Seconds per training batch and per evaluated image, at the middle resolution."""
    sizes = sorted(evaluator.resolutions)
    size = sizes[len(sizes) // 2]
    with forked_torch(0, "estimate"):
        images = torch.randn(arm.recipe.batch_size, 3, size, size, device=fabric.device)
        labels = torch.randint(0, n_classes, (len(images),), device=fabric.device)
    images = images.contiguous(memory_format=torch.channels_last)
    teacher: Teacher = registry.load(registry.TEACHERS, "none")
    if planned.teacher is not None:
        teacher = arm.teacher()
        weights = exit_weights(arm.recipe.exit_weights.output, len(net.exits) + 1)
        teacher.bind(net, [images], weights, arm.recipe.teacher_batch_statistics)
    phase = planned.phase
    objective = Objective(
        arm.recipe,
        registry.load(registry.DISTILLATION, arm.recipe.distillation),
        phase.multi_exit_loss,
        phase.inplace_distillation,
    )
    optimizer = fabric.setup_optimizers(make_optimizer(net, arm.recipe, 1e-6))  # a small rate, because noise diverges
    assert isinstance(optimizer, torch.optim.Optimizer)
    seconds = []
    for number in range(BATCHES + 1):
        archs = phase.archs(planned.space, python_rng("estimate", number), planned.settings.subnets_per_step)
        started = time.perf_counter()
        train_batch(fabric, net.train(), optimizer, objective, images, labels, archs, teacher, (0, number))
        seconds.append(time.perf_counter() - started)
    return _Timing(sum(seconds[1:]) / BATCHES, _eval_seconds(net, images))


@torch.no_grad()
def _eval_seconds(net: Supernet, images: torch.Tensor) -> float:
    """Seconds per image of a static network: the mean of the largest and the smallest one."""
    times = []
    for arch in (net.space.max_arch(), net.space.min_arch()):
        net.set_active_subnet(**arch)
        static = accelerate(net.get_active_subnet()).eval()
        fold_bn(static)
        for _ in range(2):
            started = time.perf_counter()
            static(images)[0, 0].item()
        times.append((time.perf_counter() - started) / len(images))
    return sum(times) / len(times)
