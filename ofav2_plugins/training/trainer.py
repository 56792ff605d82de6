"""The training loop of one step of the plan, from its initial weights to the weights of its best epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from .. import registry
from ..data.base import DataSplits
from ..data.batches import steps_per_epoch, train_batches
from ..distillation.base import Distillation
from ..errors import RunError
from ..evaluation.accuracy import Evaluator
from ..evaluation.candidates import Candidate, candidates
from ..loggers.base import StepInfo
from ..models.supernet import Supernet
from ..models.sync_batch_norm import synchronized_batch_norms
from ..optimizers.base import Optimizer
from ..phases.base import StepSettings
from ..plugin import PluginError
from ..recipes.schema import Recipe
from ..registry import DISTILLATION, title
from ..space import Arch
from ..teachers.base import Teacher
from ..utils.distributed import any_rank, average, average_gradients, synchronize
from ..utils.memory import peak_memory_mib, reset_peak_memory
from ..utils.seeding import forked_torch, python_rng
from .checkpoints import Progress, StepFiles, TrainingState, preserve_storage
from .context import RunContext
from .cost import TRAINING_COST
from .losses import Objective
from .plan import PlannedStep


def parameter_groups(net: nn.Module) -> list[dict[str, Any]]:
    """The groups that optimizer plugins get: weights, then batch norms and biases (one axis) without weight decay."""
    parameters = list(net.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1]},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def make_optimizer(net: nn.Module, recipe: Recipe, lr: float) -> torch.optim.Optimizer:
    """The recipe's optimizer for a network.

    Raises:
        PluginError: The plugin fails, or does not return an optimizer of all parameters.
    """
    plugin: Optimizer = registry.load(registry.OPTIMIZERS, recipe.optimizer)
    with registry.calling(registry.OPTIMIZERS, plugin.name, "build"):
        optimizer: Any = plugin.build(parameter_groups(net), lr)
    where = f"{registry.title(registry.OPTIMIZERS, plugin.name)}: build() must return"
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise PluginError(f"{where} an optimizer of torch, but got {optimizer!r:.100}")
    n_given, n_all = sum(len(group["params"]) for group in optimizer.param_groups), len(list(net.parameters()))
    if n_given != n_all:
        raise PluginError(f"{where} an optimizer of all {n_all} parameters, but got one of {n_given}")
    return optimizer


def make_scheduler(
    optimizer: torch.optim.Optimizer, recipe: Recipe, settings: StepSettings, n_batches: int
) -> LRScheduler:
    """The learning-rate schedule of the recipe's optimizer over one step of the plan.

    Args:
        optimizer: The optimizer from `make_optimizer`.
        recipe: The recipe.
        settings: Epochs and warm-up epochs.
        n_batches: Batches per epoch.

    Raises:
        PluginError: The plugin fails.
    """
    plugin: Optimizer = registry.load(registry.OPTIMIZERS, recipe.optimizer)
    with registry.calling(registry.OPTIMIZERS, plugin.name, "scheduler"):
        scheduler: Any = plugin.scheduler(optimizer, settings.warmup_epochs * n_batches, settings.epochs * n_batches)
    if not isinstance(scheduler, LRScheduler):
        where = registry.title(registry.OPTIMIZERS, plugin.name)
        raise PluginError(f"{where}: scheduler() must return an LRScheduler of torch, but got {scheduler!r:.100}")
    return scheduler


def train_batch(
    fabric: Fabric,
    net: Supernet,
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    images: Tensor,
    labels: Tensor,
    archs: Sequence[Arch],
    teacher: Teacher,
    seed_parts: Sequence[object] = (),
) -> float:
    """One optimizer step: the summed losses of `archs` on one batch. Returns their mean loss.

    A parameter that is active in none of `archs` gets no gradient; the recipe's `idle_parameters` decides whether the
    optimizer then skips it. Ranks average their gradients once, after all architectures.

    Raises:
        RunError: The loss is not finite.
        PluginError: The distillation or the teacher breaks its contract.
    """
    optimizer.zero_grad(set_to_none=objective.recipe.idle_parameters == "keep")
    losses = []
    with synchronized_batch_norms(fabric, objective.recipe.sync_batch_norm):
        with fabric.autocast():
            teacher_logits = teacher.logits(images) if objective.distillation.needs_teacher else None
        for i, arch in enumerate(archs):
            net.set_active_subnet(**arch)
            with forked_torch(*seed_parts, "dropout", i, fabric.global_rank), fabric.autocast():
                loss, teacher_logits = objective(net, images, labels, teacher_logits, first=i == 0)
            if loss.ndim:
                where = title(DISTILLATION, objective.distillation.name)
                raise PluginError(f"{where}: loss() must return a scalar, but got the shape {list(loss.shape)}")
            fabric.backward(loss)
            losses.append(loss.detach())
    average_gradients(fabric, net)
    optimizer.step()
    with registry.calling(registry.TEACHERS, teacher.name, "after_step"):
        teacher.after_step(net)
    mean = average(fabric, torch.stack(losses).mean()).item()
    if not math.isfinite(mean):
        raise RunError(f"the loss is {mean}: lower the learning rate of this phase")
    return mean


class StepTrainer:
    """Trains one step of the plan and keeps the weights of its best epoch.

    Args:
        fabric: Device, precision, processes.
        net: The supernet with the weights that the step starts from.
        data: The splits.
        recipe: The recipe.
        planned: The step.
        teacher: A bound teacher; `NoTeacher` if the step has none.
        distillation: The distillation term.
        evaluator: Selects the best epoch.
        seed: The run's seed.
        files: The checkpoints of the step.
        context: Progress, stopping, loggers.
    """

    def __init__(
        self,
        fabric: Fabric,
        net: Supernet,
        data: DataSplits,
        recipe: Recipe,
        planned: PlannedStep,
        teacher: Teacher,
        distillation: Distillation,
        evaluator: Evaluator,
        seed: int,
        files: StepFiles,
        context: RunContext,
    ):
        self.fabric, self.net, self.data, self.recipe, self.planned = fabric, net, data, recipe, planned
        self.teacher, self.evaluator, self.seed, self.files, self.context = teacher, evaluator, seed, files, context
        self.objective = Objective(
            recipe, distillation, planned.phase.multi_exit_loss, planned.phase.inplace_distillation
        )
        net.zero_grad(set_to_none=True)  # discard gradients of the previous step
        self.n_batches = steps_per_epoch(len(data.train), recipe.batch_size)
        self.n_epochs = planned.settings.epochs + planned.settings.warmup_epochs
        plain = make_optimizer(net, recipe, planned.settings.lr)
        self.scheduler = make_scheduler(plain, recipe, planned.settings, self.n_batches)
        optimizer = fabric.setup_optimizers(plain)
        assert isinstance(optimizer, torch.optim.Optimizer)
        self.optimizer = optimizer
        self.state = TrainingState(net, optimizer, self.scheduler, teacher)
        self.progress = Progress()
        self.resolutions = evaluator.resolutions
        self._images_per_batch = min(recipe.batch_size, len(data.train))
        self._counted = 0.0

    def run(self) -> Progress:
        """Train the remaining epochs and load the weights of the best one into the net.

        Raises:
            KeyboardInterrupt: The user stopped the run; all work is saved.
        """
        self.net.set_dropout(self.planned.settings.dropout)
        self._resume()
        selection = selection_candidates(self.planned, self.evaluator, self.seed)
        reset_peak_memory(self.fabric.device)
        loggers, history = self.context.loggers, [dict(record) for record in self.progress.history]
        loggers.emit("step_started", StepInfo(self.planned.name, self.files.folder, self.n_epochs, history))
        try:
            for epoch in range(self.progress.epoch, self.n_epochs):
                loggers.emit("epoch_started", epoch)
                record = self._train_epoch(epoch)
                record["val_top1"] = self.evaluator.validate(self.net, selection, self._save_if_asked)
                self._finish_epoch({**loggers.measurements(), **record})
                loggers.emit("epoch_finished", MappingProxyType(self.progress.history[-1]))
        finally:
            loggers.emit("step_finished")
        synchronize(self.fabric)  # rank 0 has written the best weights; all ranks read them
        self.net.load_state_dict(self.files.load_best()[0])
        return self.progress

    def _train_epoch(self, epoch: int) -> dict[str, Any]:
        """Train the remaining batches of an epoch; returns its loss, last learning rate and speed."""
        name, settings, done = self.planned.name, self.planned.settings, self.progress
        self.net.train()
        first, started = done.batch, time.monotonic()
        batches = train_batches(
            self.data,
            batch_size=self.recipe.batch_size,
            resolutions=self.resolutions,
            seed=self.seed,
            phase=name,
            epoch=epoch,
            start_step=first,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
            augmentations=self.evaluator.augmentations,
        )
        speed = None
        for step, (images, labels) in enumerate(batches, start=first):
            done.lr = self.optimizer.param_groups[0]["lr"]
            seeds = (self.seed, name, epoch, step)
            archs = self.planned.phase.archs(self.planned.space, python_rng(*seeds, "archs"), settings.subnets_per_step)
            images, labels = images.to(self.fabric.device), labels.to(self.fabric.device)
            done.loss_sum += train_batch(
                self.fabric, self.net, self.optimizer, self.objective,
                images, labels, archs, self.teacher, seeds,
            )  # fmt: skip
            self.scheduler.step()
            done.batch = step + 1
            speed = (done.batch - first) * self._images_per_batch / (time.monotonic() - started)
            self._show(epoch, speed)
            self._save_if_due()
        return {
            "step": name,
            "epoch": epoch,
            "loss": done.loss_sum / self.n_batches,
            "lr": done.lr,
            "images_per_second": speed,
        }

    def _finish_epoch(self, record: dict[str, Any]) -> None:
        """Complete and save the record of a finished epoch, and its weights if they are the best."""
        done, epoch = self.progress, record["epoch"]
        done.epoch, done.batch, done.loss_sum = epoch + 1, 0, 0.0
        if self._is_best(record["val_top1"]):
            done.best_top1, done.best_epoch = record["val_top1"], epoch
            if self.fabric.is_global_zero:
                self.files.save_best(self.net, epoch, done.best_top1, self.planned.space)
        self._count_time()
        record["seconds"] = done.seconds - sum(earlier["seconds"] for earlier in done.history)
        record["peak_memory_mib"] = peak_memory_mib(self.fabric.device)
        done.history.append(record)
        self._save()

    def _is_best(self, val_top1: float) -> bool:
        """Whether an epoch's weights are kept."""
        return val_top1 > self.progress.best_top1

    def _show(self, epoch: int, speed: float) -> None:
        done, reporter = self.progress, self.context.reporter
        note = f"epoch {epoch + 1}/{self.n_epochs}, loss {done.loss_sum / done.batch:.2f}, {speed:.0f} images/s"
        if left := reporter.time_for(self._work_left(epoch)):
            note += f", phase: {left}"
        reporter.advance(batch_work(self.planned, self._images_per_batch), self.planned.name, note)

    def _work_left(self, epoch: int) -> float:
        left = (self.n_epochs - epoch) * self.n_batches - self.progress.batch
        return left * batch_work(self.planned, self._images_per_batch)

    def _save_if_due(self) -> None:
        """Save within an epoch if the last checkpoint is old, or if the user has requested a stop."""
        self._save_if_asked()
        if time.monotonic() - self._counted > self.context.options.save_seconds:
            self._count_time()
            self._save()

    def _save_if_asked(self) -> None:
        """Save and exit if the user has requested a stop."""
        if any_rank(self.fabric, self.context.stop.requested):
            self._count_time()
            self._save()
            raise KeyboardInterrupt

    def _count_time(self) -> None:
        now = time.monotonic()
        self.progress.seconds += now - self._counted
        self._counted = now

    def _save(self) -> None:
        if self.fabric.is_global_zero:
            self.files.save_state(self.state, self.fabric.strategy.precision.state_dict(), self.progress)

    def _resume(self) -> None:
        self._counted = time.monotonic()
        loaded = self.files.load_state(self.state)
        if loaded is None:
            with preserve_storage(self.net):
                self.planned.phase.prepare(self.net, self.planned.step)
            return
        self.progress, precision = loaded
        self.fabric.strategy.precision.load_state_dict(precision)
        before = self.progress.epoch * self.n_batches + self.progress.batch
        self.context.reporter.skip(before * batch_work(self.planned, self._images_per_batch))


def selection_candidates(planned: PlannedStep, evaluator: Evaluator, seed: int) -> list[Candidate]:
    """The subnets whose mean validation accuracy selects the best epoch; the same in every epoch."""
    return candidates(
        planned.space,
        evaluator.resolutions,
        full=planned.phase.selection_dims,
        ensemble=planned.phase.multi_exit_loss,
        limit=None if planned.phase.multi_exit_loss else evaluator.recipe.evaluation.selection_draws,
        seed_parts=(seed, planned.name, "selection"),
    )


def batch_work(planned: PlannedStep, n_images: int) -> float:
    """The work of one training batch in image passes (forward passes of one image)."""
    subnets = planned.settings.subnets_per_step
    return n_images * (TRAINING_COST * subnets + (planned.teacher is not None))
