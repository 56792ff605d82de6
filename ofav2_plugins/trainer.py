"""The training loop: one step of the plan, from fresh or handed-over weights to its best epoch's weights."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from .checkpoint import load_checkpoint, save_checkpoint
from .data.base import DataSplits
from .data.batches import steps_per_epoch, train_batches
from .distillation.base import Distillation
from .errors import RunError
from .evaluate import Candidate, Evaluator, candidates
from .exit_weights import exit_weights
from .phases.base import StepSettings
from .pipeline import PlannedStep
from .progress import Reporter
from .recipes import Recipe
from .seeding import forked_torch, python_rng
from .space import Arch
from .supernet import Supernet
from .teachers.base import Teacher
from .teachers.ensemble import weighted_sum

TRAINING_COST = 3  # a backward pass costs about two forward passes


@dataclass(frozen=True)
class Objective:
    """The loss of one architecture: cross-entropy with the labels plus the distillation term.

    Args:
        recipe: Label smoothing, weight of the distillation, weights of the exits.
        distillation: The distillation term.
        all_exits: Sum over all exits of the architecture with the losses' exit weights (AEP), without a teacher.
    """

    recipe: Recipe
    distillation: Distillation
    all_exits: bool

    def __call__(self, net: Supernet, images: Tensor, labels: Tensor, taught: Tensor | None) -> Tensor:
        """Images [N, 3, R, R], labels [N], the teacher's logits [N, n_classes] or None, to a scalar."""
        smoothing = self.recipe.label_smoothing
        if self.all_exits:
            losses = [F.cross_entropy(y, labels, label_smoothing=smoothing) for y in net.forward_exits(images)]
            return weighted_sum(losses, exit_weights(self.recipe.exit_weights.loss, len(losses)))
        logits = net(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        if taught is None:
            return loss
        return loss + self.recipe.kd_ratio * self.distillation.loss(logits, taught)


def learning_rate(settings: StepSettings, epoch: int, batch: int, n_batches: int) -> float:
    """The base rate during warm-up, then a cosine per batch over `settings.epochs` down to 0."""
    if epoch < settings.warmup_epochs:
        return settings.lr
    passed = (epoch - settings.warmup_epochs) * n_batches + batch
    return 0.5 * settings.lr * (1 + math.cos(math.pi * passed / (settings.epochs * n_batches)))


def make_optimizer(net: Supernet, recipe: Recipe, lr: float) -> torch.optim.SGD:
    """SGD with Nesterov momentum; batch norms and biases (every parameter of one axis) do not decay."""
    parameters = list(net.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.optimizer.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    momentum = recipe.optimizer.momentum
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)


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
    """One optimiser step: the summed losses of `archs` on one batch. Returns their mean loss.

    A parameter that got no gradient (it is active in none of `archs`) is not updated.
    """
    taught = teacher.logits(images) if objective.distillation.needs_teacher else None
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for i, arch in enumerate(archs):
        net.set_active_subnet(**arch)
        with forked_torch(*seed_parts, "dropout", i, fabric.global_rank), fabric.autocast():
            loss = objective(net, images, labels, taught)
        fabric.backward(loss)
        total += loss.item()
    _average_gradients(fabric, net)
    optimizer.step()
    if not math.isfinite(total):
        raise RunError(f"the loss is {total}: lower the learning rate of this phase")
    return total / len(archs)


def _average_gradients(fabric: Fabric, net: Supernet) -> None:
    """One reduction for all subnets of a step: every rank has sampled the same, so the same have gradients."""
    if fabric.world_size == 1:
        return
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    flat = fabric.all_reduce(torch.cat([g.reshape(-1) for g in gradients]), reduce_op="mean")
    assert isinstance(flat, Tensor)
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


@dataclass
class Progress:
    """Where a step's training stands; all of it is in the state file."""

    epoch: int = 0
    best_top1: float = -1.0
    best_epoch: int = -1
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


class StepTrainer:
    """Trains one step of the plan and keeps the weights of its best epoch.

    Args:
        fabric: Device, precision, processes.
        net: The supernet with the weights that the step starts from.
        data: The splits.
        recipe: The recipe.
        planned: The step.
        teacher: Bound already where it teaches.
        distillation: The distillation term.
        evaluator: Chooses the best epoch.
        seed: The run's seed.
        folder: Where state and best weights are written.
        reporter: Progress.
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
        folder: Path,
        reporter: Reporter,
    ):
        self.fabric, self.net, self.data, self.recipe, self.planned = fabric, net, data, recipe, planned
        self.teacher, self.evaluator, self.seed, self.reporter = teacher, evaluator, seed, reporter
        self.objective = Objective(recipe, distillation, planned.phase.all_exits)
        self.optimizer = make_optimizer(net, recipe, planned.settings.lr)
        self.best_path = folder / "best.safetensors"
        self.state_path = folder / "state.safetensors"
        self.progress = Progress()
        self.resolutions = evaluator.resolutions
        self.n_batches = steps_per_epoch(len(data.train), recipe.batch_size)

    def run(self) -> Progress:
        """Train all epochs that are left; afterwards the net holds the best epoch's weights."""
        settings = self.planned.settings
        self.net.set_dropout(settings.dropout)
        self._resume()
        selection = selection_candidates(self.planned, self.evaluator, self.seed)
        for epoch in range(self.progress.epoch, settings.epochs + settings.warmup_epochs):
            started = time.monotonic()
            loss, lr = self._train_epoch(epoch)
            trained = time.monotonic() - started
            top1 = self.evaluator.validate(self.net, selection)
            done = self.progress
            done.epoch = epoch + 1
            done.seconds += time.monotonic() - started
            done.history.append(
                {
                    "step": self.planned.name,
                    "epoch": epoch,
                    "loss": loss,
                    "lr": lr,
                    "val_top1": top1,
                    "images_per_second": self.n_batches * self.recipe.batch_size / trained,
                    "seconds": time.monotonic() - started,
                }
            )
            if top1 > done.best_top1:
                done.best_top1, done.best_epoch = top1, epoch
                save_checkpoint(self.best_path, self.net.state_dict(), {"step": self.planned.name, "epoch": epoch})
            self._save_state()
        self.net.load_state_dict(load_checkpoint(self.best_path)[0])
        return self.progress

    def _train_epoch(self, epoch: int) -> tuple[float, float]:
        """Mean loss and last learning rate of an epoch."""
        name, settings, total = self.planned.name, self.planned.settings, 0.0
        self.net.train()
        batches = train_batches(
            self.data,
            batch_size=self.recipe.batch_size,
            resolutions=self.resolutions,
            seed=self.seed,
            phase=name,
            epoch=epoch,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
            min_scale=self.recipe.augmentation.min_scale,
            flip=self.recipe.augmentation.flip,
        )
        lr = settings.lr
        for step, (images, labels) in enumerate(batches):
            lr = learning_rate(settings, epoch, step, self.n_batches)
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            where = (self.seed, name, epoch, step)
            archs = self.planned.phase.archs(self.planned.space, python_rng(*where, "archs"), settings.subnets_per_step)
            images, labels = images.to(self.fabric.device), labels.to(self.fabric.device)
            total += train_batch(
                self.fabric, self.net, self.optimizer, self.objective,
                images, labels, archs, self.teacher, where,
            )  # fmt: skip
            units = batch_units(self.planned, len(labels))
            epochs = settings.epochs + settings.warmup_epochs
            self.reporter.advance(units, name, f"epoch {epoch + 1}/{epochs}, loss {total / (step + 1):.2f}")
        return total / self.n_batches, lr

    def _save_state(self) -> None:
        tensors = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        for name, parameter in self.net.named_parameters():
            momentum = self.optimizer.state.get(parameter, {}).get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{name}"] = momentum
        save_checkpoint(self.state_path, tensors, vars(self.progress))

    def _resume(self) -> None:
        if not self.state_path.exists():
            return
        tensors, meta = load_checkpoint(self.state_path)
        self.net.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("net.")})
        for name, parameter in self.net.named_parameters():
            if f"momentum.{name}" in tensors:
                momentum = tensors[f"momentum.{name}"].to(parameter.device)
                self.optimizer.state[parameter] = {"momentum_buffer": momentum}
        self.progress = Progress(**{key: meta[key] for key in vars(self.progress)})
        self.reporter.skip(self.progress.epoch * self.n_batches * batch_units(self.planned, self.recipe.batch_size))


def selection_candidates(planned: PlannedStep, evaluator: Evaluator, seed: int) -> list[Candidate]:
    """The subnets whose mean validation accuracy chooses the best epoch: the same in every epoch."""
    return candidates(
        planned.space,
        evaluator.resolutions,
        full=planned.phase.selection_dims,
        ensemble=planned.phase.all_exits,
        limit=None if planned.phase.all_exits else evaluator.recipe.evaluation.selection_draws,
        seed_parts=(seed, planned.name, "selection"),
    )


def batch_units(planned: PlannedStep, n_images: int) -> float:
    """The work of one training batch, in images through a network."""
    subnets = planned.settings.subnets_per_step
    return n_images * (TRAINING_COST * subnets + (planned.teacher is not None))
