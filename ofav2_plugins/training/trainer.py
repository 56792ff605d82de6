"""The training loop: one step of the plan, from fresh or handed-over weights to its best epoch's weights."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from ..data.base import DataSplits
from ..data.batches import steps_per_epoch, train_batches
from ..distillation.base import Distillation
from ..errors import RunError
from ..evaluation.accuracy import Evaluator
from ..evaluation.candidates import Candidate, candidates
from ..models.supernet import Supernet
from ..phases.base import StepSettings
from ..plugin import PluginError
from ..recipes.schema import Recipe
from ..registry import DISTILLATION, title
from ..space import Arch
from ..teachers.base import Teacher
from ..utils.distributed import any_rank, average, average_gradients, synchronize
from ..utils.memory import peak_memory_mib, reset_peak_memory
from ..utils.meters import EnergyMeter, TensorBoard, write_metrics
from ..utils.seeding import forked_torch, python_rng
from .checkpoints import Progress, StepFiles, preserve_storage
from .context import RunContext
from .cost import TRAINING_COST
from .losses import Objective
from .plan import PlannedStep


def learning_rate(settings: StepSettings, epoch: int, batch: int, n_batches: int) -> float:
    """The base rate during warm-up, then a cosine per batch over `settings.epochs` down to 0."""
    if epoch < settings.warmup_epochs:
        return settings.lr
    passed = (epoch - settings.warmup_epochs) * n_batches + batch
    return 0.5 * settings.lr * (1 + math.cos(math.pi * passed / (settings.epochs * n_batches)))


def make_optimizer(net: Supernet, recipe: Recipe, lr: float) -> torch.optim.SGD:
    """SGD with Nesterov momentum; batch norms and biases (every parameter of one axis) do not decay.

    One pass over each parameter (torch's fused kernel, which needs the momentum of all of them to be there).
    """
    parameters = list(net.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.optimizer.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    momentum = recipe.optimizer.momentum
    optimizer = torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=True)
    if momentum > 0:
        optimizer.state.update({p: {"momentum_buffer": torch.zeros_like(p)} for p in parameters})
    return optimizer


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

    A parameter that is active in none of `archs` gets no gradient; the recipe's `idle_parameters` says whether the
    optimizer then skips it. Ranks average their gradients once, after all architectures.
    """
    with fabric.autocast():
        teacher_logits = teacher.logits(images) if objective.distillation.needs_teacher else None
    optimizer.zero_grad(set_to_none=objective.recipe.idle_parameters == "keep")
    losses = []
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
    mean = average(fabric, torch.stack(losses).mean()).item()
    if not math.isfinite(mean):
        raise RunError(f"the loss is {mean}: lower the learning rate of this phase")
    return mean


class StepTrainer:
    """Trains one step of the plan and keeps the weights of its best epoch.

    Args:
        fabric: Device, precision, processes.
        net: The supernet with the weights of the step before.
        data: The splits.
        recipe: The recipe.
        planned: The step.
        teacher: Bound already where it teaches.
        distillation: The distillation term.
        evaluator: Chooses the best epoch.
        seed: The run's seed.
        files: Where state and best weights are.
        context: Progress, saving, metrics.
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
        net.zero_grad(set_to_none=True)  # gradients of the step before must not count as this step's
        optimizer = fabric.setup_optimizers(self._make_optimizer())
        assert isinstance(optimizer, torch.optim.Optimizer)
        self.optimizer = optimizer
        self.progress = Progress()
        self.resolutions = evaluator.resolutions
        self.n_batches = steps_per_epoch(len(data.train), recipe.batch_size)
        self.n_epochs = planned.settings.epochs + planned.settings.warmup_epochs
        self._images_per_batch = min(recipe.batch_size, len(data.train))
        self._counted = 0.0

    def _make_optimizer(self) -> torch.optim.Optimizer:
        return make_optimizer(self.net, self.recipe, self.planned.settings.lr)

    def run(self) -> Progress:
        """Train what is left; afterwards the net holds the best epoch's weights.

        Raises:
            KeyboardInterrupt: Somebody asked to stop; all that was done is saved.
        """
        self.net.set_dropout(self.planned.settings.dropout)
        self._resume()
        selection = selection_candidates(self.planned, self.evaluator, self.seed)
        options = self.context.options
        energy = EnergyMeter(options.energy)
        board = TensorBoard(self.files.folder if self._writes(options.tensorboard) else None, self.progress.epoch)
        reset_peak_memory(self.fabric.device)
        for epoch in range(self.progress.epoch, self.n_epochs):
            energy.start()
            entry = self._train_epoch(epoch)
            entry["val_top1"] = self.evaluator.validate(self.net, selection, self._save_if_asked)
            self._finish_epoch({**entry, **energy.stop()})
            board.write(self.progress.history[-1])
        board.close()
        synchronize(self.fabric)  # one rank has written the best weights, all read them
        self.net.load_state_dict(self.files.load_best()[0])
        return self.progress

    def _train_epoch(self, epoch: int) -> dict[str, Any]:
        """Train what is left of an epoch; its loss, last learning rate and speed."""
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
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(settings, epoch, step, self.n_batches)
            where = (self.seed, name, epoch, step)
            archs = self.planned.phase.archs(self.planned.space, python_rng(*where, "archs"), settings.subnets_per_step)
            images, labels = images.to(self.fabric.device), labels.to(self.fabric.device)
            done.loss_sum += train_batch(
                self.fabric, self.net, self.optimizer, self.objective,
                images, labels, archs, self.teacher, where,
            )  # fmt: skip
            done.batch = step + 1
            speed = (done.batch - first) * self._images_per_batch / (time.monotonic() - started)
            self._show(epoch, speed)
            self._save_if_due()
        return {
            "step": name,
            "epoch": epoch,
            "loss": done.loss_sum / self.n_batches,
            "lr": learning_rate(settings, epoch, self.n_batches - 1, self.n_batches),
            "images_per_second": speed,
        }

    def _finish_epoch(self, entry: dict[str, Any]) -> None:
        """Account for a finished epoch; keep its weights where they are the best."""
        done, epoch = self.progress, entry["epoch"]
        done.epoch, done.batch, done.loss_sum = epoch + 1, 0, 0.0
        if self._is_best(entry["val_top1"]):
            done.best_top1, done.best_epoch = entry["val_top1"], epoch
            if self._writes():
                self.files.save_best(self.net, epoch, done.best_top1, self.planned.space)
        self._account()
        entry["seconds"] = done.seconds - sum(held["seconds"] for held in done.history)
        entry["peak_memory_mib"] = peak_memory_mib(self.fabric.device)
        done.history.append(entry)
        self._save()

    def _is_best(self, val_top1: float) -> bool:
        """Whether an epoch's weights are to be kept."""
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
        """Save within an epoch when enough has been done since the last time, or when asked to stop."""
        self._save_if_asked()
        if time.monotonic() - self._counted > self.context.options.save_seconds:
            self._account()
            self._save()

    def _save_if_asked(self) -> None:
        """Save and stop where somebody has asked to."""
        if any_rank(self.fabric, self.context.stop.asked):
            self._account()
            self._save()
            raise KeyboardInterrupt

    def _account(self) -> None:
        now = time.monotonic()
        self.progress.seconds += now - self._counted
        self._counted = now

    def _save(self) -> None:
        if self._writes():
            self.files.save_state(self.net, self.optimizer, self.fabric.strategy.precision.state_dict(), self.progress)
            write_metrics(self.files.folder / "metrics.jsonl", self.progress.history)

    def _writes(self, wanted: bool = True) -> bool:
        """Whether this rank writes files."""
        return wanted and self.fabric.is_global_zero

    def _resume(self) -> None:
        self._counted = time.monotonic()
        held = self.files.load_state(self.net, self.optimizer)
        if held is None:
            with preserve_storage(self.net):
                self.planned.phase.prepare(self.net, self.planned.step)
            return
        self.progress, precision = held
        self.fabric.strategy.precision.load_state_dict(precision)
        before = self.progress.epoch * self.n_batches + self.progress.batch
        self.context.reporter.skip(before * batch_work(self.planned, self._images_per_batch))


def selection_candidates(planned: PlannedStep, evaluator: Evaluator, seed: int) -> list[Candidate]:
    """The subnets whose mean validation accuracy chooses the best epoch: the same in every epoch."""
    return candidates(
        planned.space,
        evaluator.resolutions,
        full=planned.phase.selection_dims,
        ensemble=planned.phase.multi_exit_loss,
        limit=None if planned.phase.multi_exit_loss else evaluator.recipe.evaluation.selection_draws,
        seed_parts=(seed, planned.name, "selection"),
    )


def batch_work(planned: PlannedStep, n_images: int) -> float:
    """The work of one training batch, in images through a network."""
    subnets = planned.settings.subnets_per_step
    return n_images * (TRAINING_COST * subnets + (planned.teacher is not None))
