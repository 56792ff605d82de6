"""The state of a step in training: written whole, the last good one kept, refused where it is not this step's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import RunError
from ..plugin import PluginError
from ..space import SearchSpace
from ..utils.tensor_files import load_checkpoint, save_checkpoint

OPTIMIZER_STATE = {"momentum_buffer": "momentum", "exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq", "step": "step"}
"""The tensors that an optimizer keeps for a parameter (SGD's, AdamW's), and the prefix of their names in a file."""


@dataclass
class Progress:
    """Where a step's training stands.

    Args:
        epoch: The epoch in work, from 0; all earlier ones are done.
        batch: Batches of it that are done.
        loss_sum: Sum of the losses of those batches.
        best_top1: Best mean validation top-1 so far, in percent.
        best_epoch: Its epoch.
        seconds: Training and validating, over all sessions.
        history: One entry per finished epoch; what metrics.jsonl holds.
    """

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    best_top1: float = -1.0
    best_epoch: int = -1
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def preserve_storage(net: nn.Module) -> Iterator[None]:
    """What replaces `.data` in it is copied into the tensors that were there, with their storage and layout.

    Otherwise a training that goes on with it would not compute with the same kernels, to the last bit, as one that
    reads the same values from a checkpoint.

    Raises:
        PluginError: Parameters or buffers were added, removed, exchanged, or given another shape or type: optimiser
            and checkpoints know the ones that were there.
    """
    held = {name: (tensor, tensor.data) for name, tensor in net.state_dict(keep_vars=True).items()}
    yield
    now = net.state_dict(keep_vars=True)
    for name in {**held, **now}:
        known = name in held and name in now and now[name] is held[name][0]
        if not known or (now[name].shape, now[name].dtype) != (held[name][1].shape, held[name][1].dtype):
            raise PluginError(
                f"a phase's prepare may change the values of parameters and buffers, but {name!r} was added, removed, "
                "exchanged, or given another shape or type"
            )
    moved = [name for name, (_, data) in held.items() if not _same_memory(data, now[name].data)]
    values = {name: now[name].data.clone() for name in moved}  # all before any is written: they may share memory
    for name, value in values.items():
        now[name].data = held[name][1].copy_(value)


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return (a.data_ptr(), a.stride()) == (b.data_ptr(), b.stride())


class StepFiles:
    """The checkpoints of one step in its folder.

    Args:
        folder: The step's folder; its name ends in the hash of all that the step's result depends on.
        say: Told of every file that is refused.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]):
        self.folder, self.say = folder, say
        self.best = folder / "best.safetensors"
        self.state = folder / "state.safetensors"
        self.previous = folder / "state.previous.safetensors"

    def save_best(self, net: nn.Module, epoch: int, top1: float, space: SearchSpace) -> None:
        """Write the weights of the best epoch so far, and what of the space they were trained for."""
        unlocked = {dim.name: list(space.unlocked_values(dim.name)) for dim in space.dims}
        meta = {"kind": "best", "written_by": self.folder.name, "epoch": epoch, "top1": top1, "unlocked": unlocked}
        save_checkpoint(self.best, net.state_dict(), meta)

    def load_best(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights and meta of the best epoch. Raises RunError where the file is damaged or another step's."""
        return self._load(self.best, "best")

    def save_state(
        self, net: nn.Module, optimizer: torch.optim.Optimizer, precision: dict[str, Any], progress: Progress
    ) -> None:
        """Write weights, momentum, loss scale and progress; the state before it is kept beside it."""
        tensors = {f"net.{name}": value for name, value in net.state_dict().items()}
        for name, parameter in net.named_parameters():
            for key, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"{OPTIMIZER_STATE[key]}.{name}"] = value
        meta = {
            "kind": "state",
            "written_by": self.folder.name,
            "precision": precision,
            "progress": asdict(progress),
            "with_gradient": [name for name, parameter in net.named_parameters() if parameter.grad is not None],
        }
        save_checkpoint(self.state, tensors, meta, previous=self.previous)

    def load_state(self, net: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Progress, dict[str, Any]] | None:
        """Put the newest good state into net and optimiser; its progress and loss scale, or None for no state."""
        for path in (self.state, self.previous):
            try:
                tensors, meta = self._load(path, "state")
                progress = self._with_best(Progress(**meta["progress"]))
            except RunError as error:
                if path.exists():
                    self.say(f"{error}; falling back to what was saved before")
                continue
            net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")})
            for name, parameter in net.named_parameters():
                # Its value does not matter, the next optimizer step zeroes it: with `idle_parameters: momentum` a
                # parameter that has a gradient keeps moving.
                parameter.grad = torch.zeros_like(parameter) if name in meta["with_gradient"] else None
                for key, prefix in OPTIMIZER_STATE.items():
                    if (value := tensors.get(f"{prefix}.{name}")) is not None:
                        # In the parameter's own layout, as if it had grown here: a layout decides on rounding.
                        like = torch.empty_like(parameter).detach() if value.shape == parameter.shape else value
                        optimizer.state[parameter][key] = like.copy_(value)
            return progress, meta["precision"]
        if self.state.exists() or self.previous.exists():
            self.say(f"{self.folder.name} starts again from its beginning")
        return None

    def drop_states(self) -> None:
        """Remove the states of a finished step."""
        for path in (self.state, self.previous):
            path.unlink(missing_ok=True)

    def _with_best(self, progress: Progress) -> Progress:
        """The best epoch as its own file has it: it may be one epoch newer than the state."""
        if progress.best_epoch >= 0 or self.best.exists():
            meta = self.load_best()[1]
            progress.best_epoch, progress.best_top1 = meta["epoch"], meta["top1"]
        return progress

    def _load(self, path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, meta = load_checkpoint(path)
        if meta.get("kind") != kind:
            raise RunError(f"checkpoint {path} is damaged: it must hold a {kind}, but holds a {meta.get('kind')}")
        if meta.get("written_by") != self.folder.name:
            raise RunError(f"checkpoint {path} was made by {meta.get('written_by')!r}, not by {self.folder.name!r}")
        return tensors, meta
