"""Checkpoints of a step: written atomically; the previous one is kept; checkpoints of other steps are rejected."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from ..errors import RunError
from ..plugin import PluginError
from ..space import SearchSpace
from ..teachers.base import Teacher
from ..utils.tensor_files import load_checkpoint, save_checkpoint


@dataclass
class Progress:
    """The progress of a step's training.

    Args:
        epoch: The current epoch, from 0; all earlier ones are finished.
        batch: Finished batches of the current epoch.
        loss_sum: Sum of the losses of those batches.
        lr: Learning rate of the last batch.
        best_top1: Best mean validation top-1 so far, in percent.
        best_epoch: Its epoch.
        seconds: Time spent in training and validation, over all sessions.
        history: One record per finished epoch, as in metrics.jsonl.
    """

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    lr: float = 0.0
    best_top1: float = -1.0
    best_epoch: int = -1
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def preserve_storage(net: nn.Module) -> Iterator[None]:
    """Copy new values of `.data` into the existing tensors on exit, so that their storage and layout stay the same.

    Otherwise a training that continues with the new tensors might run different kernels than one that loads the same
    values from a checkpoint, and the results would not be bitwise equal.

    Raises:
        PluginError: Parameters or buffers were added, removed, replaced, or changed in shape or type; the optimizer
            and the checkpoints refer to the existing ones.
    """
    before = {name: (tensor, tensor.data) for name, tensor in net.state_dict(keep_vars=True).items()}
    yield
    now = net.state_dict(keep_vars=True)
    for name in {**before, **now}:
        known = name in before and name in now and now[name] is before[name][0]
        if not known or (now[name].shape, now[name].dtype) != (before[name][1].shape, before[name][1].dtype):
            raise PluginError(
                f"a phase's prepare may change the values of parameters and buffers, but {name!r} was added, removed, "
                "replaced, or changed in shape or type"
            )
    moved = [name for name, (_, data) in before.items() if not _same_memory(data, now[name].data)]
    values = {name: now[name].data.clone() for name in moved}  # copy all before writing any: they may share memory
    for name, value in values.items():
        now[name].data = before[name][1].copy_(value)


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return (a.data_ptr(), a.stride()) == (b.data_ptr(), b.stride())


@dataclass(frozen=True)
class TrainingState:
    """The objects whose state changes while a step trains.

    Args:
        net: The supernet.
        optimizer: Its optimizer.
        scheduler: The learning-rate schedule of the optimizer.
        teacher: The teacher.
    """

    net: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler
    teacher: Teacher

    def save(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The state as tensors and JSON-able values."""
        tensors = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        tensors |= {f"teacher.{name}": value for name, value in self.teacher.state_dict().items()}
        values: dict[str, dict[str, Any]] = {}
        for name, parameter in self.net.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{key}.{name}"] = value
                else:
                    values.setdefault(name, {})[key] = value
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        meta = {
            "optimizer": {"groups": groups, "values": values},
            "scheduler": _to_json(self.scheduler.state_dict()),
            "with_gradient": [name for name, p in self.net.named_parameters() if p.grad is not None],
        }
        return tensors, meta

    def load(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Restore what `save` returned."""
        self.net.load_state_dict(_with_prefix("net.", tensors))
        self.teacher.load_state_dict(_with_prefix("teacher.", tensors))
        for name, parameter in self.net.named_parameters():
            # Only the presence of a gradient matters: with `idle_parameters: momentum`, a parameter that has one keeps
            # moving. The next optimizer step zeroes its value.
            parameter.grad = torch.zeros_like(parameter) if name in meta["with_gradient"] else None
        self._load_optimizer(_with_prefix("optimizer.", tensors), meta["optimizer"])
        self.scheduler.load_state_dict(_from_json(meta["scheduler"]))

    def _load_optimizer(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Like `torch.optim.Optimizer.load_state_dict`, but every tensor gets its parameter's layout.

        The layout affects the rounding of sums, so it must match that of an uninterrupted training.
        """
        parameters = dict(self.net.named_parameters())
        on_device = self.optimizer.defaults.get("fused") or self.optimizer.defaults.get("capturable")
        for key, value in tensors.items():
            kind, _, name = key.partition(".")
            parameter = parameters[name]
            if value.shape == parameter.shape:
                value = torch.empty_like(parameter).detach().copy_(value)
            elif on_device:  # Adam's step count
                value = value.to(parameter.device)
            self.optimizer.state[parameter][kind] = value
        for name, values in meta["values"].items():
            self.optimizer.state[parameters[name]].update(values)
        for group, values in zip(self.optimizer.param_groups, meta["groups"], strict=True):
            group.update({k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


_PAIRS = "__pairs__"


def _to_json(value: Any) -> Any:
    """Replace mappings whose keys are not strings, such as the milestones of `MultiStepLR`, by lists of pairs."""
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: _to_json(entry) for key, entry in value.items()}
        return {_PAIRS: [[key, _to_json(entry)] for key, entry in value.items()]}
    return [_to_json(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _from_json(value: Any) -> Any:
    """The inverse of `_to_json`, except that tuples become lists."""
    if isinstance(value, Mapping):
        if set(value) == {_PAIRS}:
            return {key: _from_json(entry) for key, entry in value[_PAIRS]}
        return {key: _from_json(entry) for key, entry in value.items()}
    return [_from_json(entry) for entry in value] if isinstance(value, list) else value


def _with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


class StepFiles:
    """The checkpoints of one step in its folder.

    Args:
        folder: The step's folder; its name ends in the step's cache key.
        say: Receives a line for every file that is rejected.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]):
        self.folder, self.say = folder, say
        self.best = folder / "best.safetensors"
        self.state = folder / "state.safetensors"
        self.previous = folder / "state.previous.safetensors"

    def save_best(self, net: nn.Module, epoch: int, top1: float, space: SearchSpace) -> None:
        """Write the weights of the best epoch so far, and the values of the space that they were trained for."""
        unlocked = {dim.name: list(space.unlocked_values(dim.name)) for dim in space.dims}
        meta = {"kind": "best", "written_by": self.folder.name, "epoch": epoch, "top1": top1, "unlocked": unlocked}
        save_checkpoint(self.best, net.state_dict(), meta)

    def load_best(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights and meta of the best epoch. Raises RunError if the file is damaged or belongs to another step."""
        return self._load(self.best, "best")

    def save_state(self, state: TrainingState, precision: Mapping[str, Any], progress: Progress) -> None:
        """Write the state of the training, the loss scale and the progress; the previous checkpoint is kept."""
        tensors, meta = state.save()
        meta |= {"kind": "state", "written_by": self.folder.name, "precision": precision, "progress": asdict(progress)}
        save_checkpoint(self.state, tensors, meta, previous=self.previous)

    def load_state(self, state: TrainingState) -> tuple[Progress, dict[str, Any]] | None:
        """Restore the newest undamaged checkpoint; returns its progress and loss scale, or None if there is none."""
        for path in (self.state, self.previous):
            try:
                tensors, meta = self._load(path, "state")
                progress = self._with_best(Progress(**meta["progress"]))
            except RunError as error:
                if path.exists():
                    self.say(f"{error}; falling back to the previous checkpoint")
                continue
            state.load(tensors, meta)
            return progress, meta["precision"]
        if self.state.exists() or self.previous.exists():
            self.say(f"{self.folder.name} starts again from its beginning")
        return None

    def drop_states(self) -> None:
        """Remove the states of a finished step."""
        for path in (self.state, self.previous):
            path.unlink(missing_ok=True)

    def _with_best(self, progress: Progress) -> Progress:
        """The progress with the best epoch from the file of the best weights, which may be one epoch newer."""
        if progress.best_epoch >= 0 or self.best.exists():
            meta = self.load_best()[1]
            progress.best_epoch, progress.best_top1 = meta["epoch"], meta["top1"]
        return progress

    def _load(self, path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, meta = load_checkpoint(path)
        if meta.get("kind") != kind:
            raise RunError(f"checkpoint {path} is damaged: it must contain a {kind}, but contains a {meta.get('kind')}")
        if meta.get("written_by") != self.folder.name:
            raise RunError(
                f"checkpoint {path} was written by step {meta.get('written_by')!r}, not by {self.folder.name!r}"
            )
        return tensors, meta
