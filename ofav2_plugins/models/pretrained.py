"""Weights to start from: an official OFA checkpoint, any upstream `OFAMobileNetV3` state dict, or one of our own.

They go into any variant; what the file does not have (exits, branches) starts fresh, branches so quiet that the
network's output hardly changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..space import SearchSpace
from ..utils.tensor_files import load_checkpoint
from .supernet import Supernet, upstream_key

QUIET = 1e-6
"""Scale of a fresh branch's last batch norm: its output is nearly 0, and ReLU still passes it a gradient."""

UPSTREAM_DIMS = ("ks", "e", "d")
"""What an upstream supernet's weights are trained for."""


@dataclass(frozen=True)
class InitialWeights:
    """A file of weights.

    Args:
        path: The file.
        tensors: Its state dict.
        unlocked: Dimension -> the values that it was trained for.
        digest: Hash of the file.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    unlocked: Mapping[str, tuple[int, ...] | None]
    digest: str

    def unlocked_dims(self, space: SearchSpace) -> dict[str, tuple[int, ...]]:
        """What the file was trained for, as far as `space` has it."""
        found = {}
        for dim in space.dims:
            if dim.name in self.unlocked:
                values = self.unlocked[dim.name]
                found[dim.name] = dim.values if values is None else tuple(g for g in values if g in dim.values)
        return {name: values for name, values in found.items() if values}

    def put_into(self, net: Supernet) -> list[str]:
        """Load into a fresh supernet; says what was made anew.

        Raises:
            UserError: Weights of upstream's part are missing or of another shape, or the file has unknown ones.
        """
        own = net.state_dict()
        known = {upstream_key(key, set(own)): value for key, value in self.tensors.items()}
        notes = _drop_classifiers(known, own)
        unknown = sorted(set(known) - set(own))
        if unknown:
            raise UserError(f"--init-from {self.path} has weights that this supernet has not: {_some(unknown)}")
        wrong = [key for key, value in known.items() if value.shape != own[key].shape]
        if wrong:
            shapes = f"{list(own[wrong[0]].shape)}, but got {list(known[wrong[0]].shape)}"
            raise UserError(
                f"--init-from {self.path}: {wrong[0]} must have the shape {shapes}; set width_mult to the file's"
            )
        missing = sorted(set(own) - set(known))
        needed = [key for key in missing if not _is_addition(key) and not _is_classifier(key)]
        if needed:
            raise UserError(f"--init-from {self.path} is no OFAMobileNetV3 supernet: it lacks {_some(needed)}")
        nn.Module.load_state_dict(net, known, strict=False)
        notes += _quiet_fresh_branches(net, missing)
        if fresh := sorted({key.split(".")[1] for key in missing if key.startswith("exits.")}):
            notes.append(f"exits {', '.join(fresh)} start fresh")
        return notes

    def to_dict(self) -> dict[str, Any]:
        """What identifies the file, wherever it is, as JSON-able values."""
        unlocked = {name: None if values is None else list(values) for name, values in self.unlocked.items()}
        return {"digest": self.digest, "unlocked": unlocked}

    @property
    def has_exits(self) -> bool:
        """Whether early exits are among the weights."""
        return any(key.startswith("exits.") for key in self.tensors)


def load_initial(path: Path) -> InitialWeights:
    """Read a file of weights; nothing in it is executed.

    Raises:
        UserError: It does not exist, is damaged, or holds no state dict.
    """
    try:
        digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError as error:
        raise UserError(f"--init-from {path} cannot be read: {error.strerror}") from error
    if path.suffix == ".safetensors":
        tensors, meta = load_checkpoint(path)
        unlocked = {name: tuple(values) for name, values in meta.get("unlocked", {}).items()}
        return InitialWeights(path, tensors, unlocked, digest)
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what torch raises of damage is of many kinds
        reason = str(error).partition("\n")[0]
        if "weights_only" in str(error):  # torch advises to load it nevertheless, which could execute code in it
            reason = "it contains other objects than tensors, which are not loaded because they could execute code"
        raise UserError(f"--init-from {path} is damaged or holds more than weights: {reason}") from error
    weights = _state_dict(held)
    if weights is None:
        raise UserError(
            f"--init-from {path} must hold a state dict of finite numbers (or one under 'state_dict'), but holds none"
        )
    return InitialWeights(path, weights, dict.fromkeys(UPSTREAM_DIMS), digest)


def _state_dict(held: Any) -> dict[str, Tensor] | None:
    if isinstance(held, Mapping):
        for key in ("state_dict", "model"):
            if isinstance(held.get(key), Mapping):
                held = held[key]
        if held and all(_is_plain(value) for value in held.values()):
            return {str(key).removeprefix("module."): value for key, value in held.items()}
    return None


def _is_plain(value: Any) -> bool:
    """A dense tensor of finite real numbers."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_complex():
        return False
    return not value.is_floating_point() or bool(value.isfinite().all())


def _drop_classifiers(known: dict[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Take out classifiers of another class count."""
    dropped = [k for k in known if k in own and _is_classifier(k) and known[k].shape[:1] != own[k].shape[:1]]
    counts = [(known[k].shape[0] if known[k].ndim else 0, own[k].shape[0]) for k in dropped]
    notes = [f"the classifier is made anew: {there} classes in the file, {here} here" for there, here in counts]
    for key in dropped:
        del known[key]
    return notes[:1]


def _quiet_fresh_branches(net: Supernet, missing: list[str]) -> list[str]:
    fresh, loud = set(), set()
    for i, block in enumerate(net.blocks[1:], start=1):
        for name, branch in block.branches.items():
            if not any(key.startswith(f"blocks.{i}.branches.{name}.") for key in missing):
                continue
            fresh.add(name)
            norms = [module for module in branch.modules() if isinstance(module, nn.BatchNorm2d)]
            if norms:
                nn.init.constant_(norms[-1].weight, QUIET)
                nn.init.zeros_(norms[-1].bias)
            else:
                loud.add(name)
    notes = [f"branch {name!r} starts fresh, its output near 0" for name in sorted(fresh - loud)]
    return notes + [f"branch {name!r} has no batch norm: it changes the output at once" for name in sorted(loud)]


def _is_classifier(key: str) -> bool:
    return ".linear." in key and "classifier" in key


def _is_addition(key: str) -> bool:
    return key.startswith("exits.") or ".branches." in key


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
