"""Tries every plugin of a run on a tiny batch before the training starts."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from .. import registry
from ..augmentation.base import Augmentation
from ..data.base import DataSplits, Split
from ..data.batches import train_batches
from ..distillation.base import Distillation
from ..exits.weights import exit_weights
from ..models.subnet import build_subnet
from ..models.supernet import Supernet
from ..phases.base import Phase
from ..plugin import PluginError, describe_reference, reference_name
from ..recipes.schema import Recipe
from ..registry import calling, title
from ..skips.base import Skip
from ..space import Arch, SearchSpace
from ..teachers.base import Teacher
from ..training.checkpoints import TrainingState
from ..training.losses import Objective
from ..training.plan import PlannedStep
from ..training.run_config import RunConfig
from ..training.trainer import make_optimizer, make_scheduler, train_batch
from ..utils.seeding import forked_torch
from .records import TRAINED
from .training_run import TrainingRun

IMAGES = 2


def try_runs(runs: Sequence[TrainingRun]) -> None:
    """Call `try_plugins` for every run with untrained steps, once for runs that differ only in their seed.

    Raises:
        PluginError: A plugin fails; names the arm if there are several runs.
    """
    tried: list[dict[str, Any]] = []
    for run in runs:
        plugins = {key: value for key, value in run.config.to_dict().items() if key not in ("arm", "seed")}
        if plugins in tried or all((folder / TRAINED).exists() for folder in run.folders.values()):
            continue
        tried.append(plugins)
        try:
            try_plugins(run.config, run.data, run.fabric)
        except PluginError as error:
            if len(runs) == 1:
                raise
            raise PluginError(f"arm {run.config.name!r}: {error}") from error


def noise_data(config: RunConfig) -> DataSplits:
    """A few noise images in two classes, for a trial without a dataset."""
    resolutions = config.recipe.resolutions or (32,)
    rng, side = np.random.default_rng(0), max(resolutions)
    images = rng.integers(0, 256, (2 * IMAGES, 3, side, side), dtype=np.uint8)
    split = Split(images, np.arange(2 * IMAGES) % 2)
    return DataSplits(
        name="noise",
        train=split,
        validation=split,
        test=split,
        class_names=("0", "1"),
        resolutions=tuple(resolutions),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        fingerprint="noise",
    )


def try_plugins(config: RunConfig, data: DataSplits, fabric: Fabric) -> None:
    """Use every plugin of a run once, on a few images: a forward pass of every exit and one batch of every phase.

    Args:
        config: The run; it is not modified.
        data: Its data.
        fabric: The device.

    Raises:
        PluginError: A plugin fails or breaks its contract; names the plugin, its distribution and its file.
    """
    batch = _batch(config.recipe, data, config.seed)
    net = config.build(data.n_classes)
    plan = config.plan(net.space)
    _try_network(net, batch[0])
    teacher = config.teacher()
    net = net.to(fabric.device)
    images, labels = (part.to(fabric.device) for part in batch)
    if any(planned.teacher is not None for planned in plan):
        teacher = _CheckedTeacher(teacher)
        weights = exit_weights(config.recipe.exit_weights.output, len(net.exits) + 1)
        teacher.bind(copy.deepcopy(net), [images], weights, config.recipe.teacher_batch_statistics)
    precision = fabric.strategy.precision.state_dict()
    untaught: Teacher = registry.load(registry.TEACHERS, "none")
    for planned in {planned.phase.name: planned for planned in plan}.values():  # the last step of each phase
        with calling(registry.PHASES, planned.phase.name, "prepare"):
            planned.phase.prepare(net, planned.step)
        chosen = teacher if planned.teacher is not None else untaught
        _try_batch(fabric, net, config.recipe, planned, images, labels, chosen)
    fabric.strategy.precision.load_state_dict(precision)


def try_step(
    net: Supernet, recipe: Recipe, planned: PlannedStep, teacher: Teacher, data: DataSplits, seed: int, fabric: Fabric
) -> None:
    """Train one batch of a step with every plugin that it uses.

    Args:
        net: The network on the device; it is modified.
        recipe: The settings of the training.
        planned: The step.
        teacher: Its teacher, bound already.
        data: The data.
        seed: Seed of the batch.
        fabric: The device.

    Raises:
        PluginError: A plugin fails or breaks its contract; names the plugin, its distribution and its file.
    """
    images, labels = (part.to(fabric.device) for part in _batch(recipe, data, seed))
    precision = fabric.strategy.precision.state_dict()
    _try_batch(fabric, net, recipe, planned, images, labels, teacher)
    fabric.strategy.precision.load_state_dict(precision)


def _try_batch(
    fabric: Fabric,
    net: Supernet,
    recipe: Recipe,
    planned: PlannedStep,
    images: Tensor,
    labels: Tensor,
    teacher: Teacher,
) -> None:
    phase = planned.phase
    distillation = _CheckedDistillation(registry.load(registry.DISTILLATION, recipe.distillation))
    objective = Objective(recipe, distillation, phase.multi_exit_loss, phase.inplace_distillation)
    archs = _archs(planned)
    plain = make_optimizer(net, recipe, 1e-6)
    scheduler = make_scheduler(plain, recipe, planned.settings, n_batches=1)
    optimizer = fabric.setup_optimizers(plain)
    assert isinstance(optimizer, torch.optim.Optimizer)
    try:
        train_batch(
            fabric, net.train(), optimizer, objective, images, labels, archs[:2], teacher, ("trial", planned.name)
        )
    except Exception as error:
        raise PluginError(f"the trial of phase {planned.name!r} fails: {registry.explain(error)}") from error
    _check_state(TrainingState(net, optimizer, scheduler, teacher), recipe)


def _check_state(state: TrainingState, recipe: Recipe) -> None:
    where = title(registry.OPTIMIZERS, reference_name(recipe.optimizer))
    with calling(registry.OPTIMIZERS, reference_name(recipe.optimizer), "scheduler().step"):
        state.scheduler.step()
    try:
        json.dumps(state.save()[1])
    except (TypeError, ValueError) as error:
        raise PluginError(f"{where}: its state must be tensors and JSON-able values, but {error}") from error


def _batch(recipe: Recipe, data: DataSplits, seed: int) -> tuple[Tensor, Tensor]:
    """A few augmented training images and their labels."""
    resolution = min(recipe.resolutions or data.resolutions)
    plugins = [_CheckedAugmentation(registry.load(registry.AUGMENTATIONS, plugin)) for plugin in recipe.augmentations]
    batches = train_batches(
        data,
        batch_size=min(IMAGES, len(data.train)),
        resolutions=[resolution],
        seed=seed,
        phase="trial",
        epoch=0,
        augmentations=plugins,
    )
    return next(batches)


def _try_network(net: Supernet, images: Tensor) -> None:
    """Run the smallest and the largest network with all of their exits, also as static networks."""
    before, net.skip = net.skip, _CheckedSkip(net.skip)
    try:
        for arch in (net.space.min_arch(), net.space.max_arch()):
            net.set_active_subnet(**arch)
            with forked_torch("trial"), torch.no_grad():
                _check_logits(net, net.eval().forward_exits(images), len(images))
    finally:
        net.skip = before
    with forked_torch("trial"), torch.no_grad():
        expected = net.forward_exits(images)
        static = net.get_multi_exit_subnet().eval()
        again = build_subnet(json.loads(json.dumps(static.config)))
        again.load_state_dict(static.state_dict())
        for logits, other in zip(expected, again.eval().forward_exits(images), strict=True):
            if not torch.allclose(logits, other, rtol=1e-3, atol=1e-3 * (1 + logits.abs().max().item())):
                raise PluginError(
                    f"the network built from its config has other logits than the supernet, by up to "
                    f"{(logits - other).abs().max().item():.2g}; check the `config` of branches and exits"
                )


def _check_logits(net: Supernet, logits: Sequence[Tensor], n_images: int) -> None:
    where = title(registry.EXITS, reference_name(net.spec.exits))
    for number, found in zip([*map(int, net.exits), net.n_stages], logits, strict=False):
        if list(found.shape) != [n_images, net.n_classes]:
            raise PluginError(
                f"{where}: exit {number} must give logits [N, {net.n_classes}], but got {list(found.shape)} for "
                f"{n_images} images"
            )
        if not torch.isfinite(found).all():
            others = ", ".join(map(describe_reference, [*net.spec.branches, net.spec.skip]))
            raise PluginError(
                f"{where}: the logits of exit {number} must be finite, but got NaN or infinite ones; this "
                f"plugin or one of {others} is the cause"
            )


def _archs(planned: PlannedStep) -> list[Arch]:
    phase, space = planned.phase, planned.space
    with calling(registry.PHASES, phase.name, "archs"):
        archs = phase.archs(space, random.Random(0), planned.settings.subnets_per_step)
    _check_archs(phase, space, archs)
    return archs


def _check_archs(phase: Phase, space: SearchSpace, archs: object) -> None:
    where = title(registry.PHASES, phase.name)
    if not isinstance(archs, list) or not archs:
        raise PluginError(f"{where}: archs() must return a list of architectures, but got {archs!r:.100}")
    for arch in archs:
        try:
            space.parse(arch)
        except (ValueError, TypeError, AttributeError) as error:
            raise PluginError(f"{where}: archs() must return architectures of the space, but {error}") from error


class _CheckedSkip(Skip):
    """A skip whose output must have the shape of the last block's output."""

    def __init__(self, skip: Skip):
        self._skip, self.name = skip, skip.name

    def run(self, blocks: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
        expected = reduce(lambda y, block: block(y), blocks, x)
        self._skip.training = self.training
        with calling(registry.SKIPS, self.name, "run"):
            y = self._skip.run(blocks, x)
        if not isinstance(y, Tensor) or y.shape != expected.shape:
            found = list(y.shape) if isinstance(y, Tensor) else repr(y)
            raise PluginError(
                f"{title(registry.SKIPS, self.name)}: run() must return a tensor {list(expected.shape)}, as the "
                f"stage's last block does, but got {found!s:.100}"
            )
        if torch.isfinite(expected).all() and not torch.isfinite(y).all():
            raise PluginError(
                f"{title(registry.SKIPS, self.name)}: run() must return finite numbers, but got NaN or infinite ones"
            )
        return y


class _CheckedAugmentation(Augmentation):
    """An augmentation that must preserve the number of images and labels."""

    def __init__(self, augmentation: Augmentation):
        self._augmentation, self.name = augmentation, augmentation.name

    def apply(self, images: Tensor, labels: Tensor, context: object) -> tuple[Tensor, Tensor]:
        where, n = title(registry.AUGMENTATIONS, self.name), len(images)
        with calling(registry.AUGMENTATIONS, self.name, "apply"):
            found = self._augmentation.apply(images, labels, context)  # type: ignore[arg-type]
        if not (isinstance(found, tuple) and len(found) == 2 and all(isinstance(part, Tensor) for part in found)):
            raise PluginError(f"{where}: apply() must return images and labels, two tensors, but got {found!r:.100}")
        changed, targets = found
        if changed.ndim != 4 or len(changed) != n or changed.shape[2] != changed.shape[3] or len(targets) != n:
            raise PluginError(
                f"{where}: apply() must return square images [{n}, C, S, S] and {n} labels, but got "
                f"{list(changed.shape)} and {list(targets.shape)}"
            )
        if not (changed.is_floating_point() and torch.isfinite(changed).all()):
            raise PluginError(f"{where}: apply() must return finite floating-point images, but got {changed.dtype}")
        return found


class _CheckedDistillation(Distillation):
    """A distillation whose loss must be a finite scalar with a gradient."""

    def __init__(self, distillation: Distillation):
        self._distillation, self.name = distillation, distillation.name
        self.needs_teacher = distillation.needs_teacher

    def loss(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        with calling(registry.DISTILLATION, self.name, "loss"):
            loss = self._distillation.loss(student_logits, teacher_logits)
        if not isinstance(loss, Tensor) or loss.ndim or not math.isfinite(loss.item()) or not loss.requires_grad:
            found = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, Tensor) and loss.ndim else f"{loss!r}"
            where = title(registry.DISTILLATION, self.name)
            raise PluginError(
                f"{where}: loss() must return a finite scalar tensor with a gradient, but got {found:.100}"
            )
        return loss


class _CheckedTeacher(Teacher):
    """A teacher whose logits must be finite and of the student's shape."""

    def __init__(self, teacher: Teacher):
        self._teacher, self.name, self._n_classes = teacher, teacher.name, 0

    def source(self, finished: Sequence[str]) -> str | None:
        return self._teacher.source(finished)

    def bind(self, supernet: Supernet, *arguments: object, **others: object) -> None:
        self._n_classes = supernet.n_classes
        with calling(registry.TEACHERS, self.name, "bind"):
            self._teacher.bind(supernet, *arguments, **others)  # type: ignore[arg-type]

    def logits(self, images: Tensor) -> Tensor | None:
        with calling(registry.TEACHERS, self.name, "logits"):
            logits = self._teacher.logits(images)
        expected = [len(images), self._n_classes]
        if not isinstance(logits, Tensor) or list(logits.shape) != expected or not torch.isfinite(logits).all():
            found = list(logits.shape) if isinstance(logits, Tensor) else logits
            where = title(registry.TEACHERS, self.name)
            raise PluginError(f"{where}: logits() must return finite logits {expected}, but got {found!r:.100}")
        return logits

    def after_step(self, net: Supernet) -> None:
        with calling(registry.TEACHERS, self.name, "after_step"):
            self._teacher.after_step(net)

    def state_dict(self) -> dict[str, Tensor]:
        with calling(registry.TEACHERS, self.name, "state_dict"):
            return dict(self._teacher.state_dict())
