"""Initial weights: an official OFA checkpoint, any state dict of an upstream supernet, or one of this package.

They can be loaded into any variant of the same backbone. Exits and branches that are missing from the file are
initialized; the output of such a branch is near 0, so the network's output hardly changes.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..space import HEIGHT, LEVEL, SearchSpace
from ..utils.tensor_files import load_checkpoint
from .keys import upstream_key
from .layers.parallel import ParallelBlock
from .supernet import Supernet

NEAR_ZERO = 1e-6
"""Scale of a new branch's last batch norm: the output is nearly 0, but gradients still pass through ReLU."""


@dataclass(frozen=True)
class InitialWeights:
    """A weight file.

    Args:
        path: The file.
        tensors: Its state dict.
        unlocked: Dimension -> the values that the weights were trained for; None means all values of the backbone's
            dimensions, as for an upstream supernet.
        digest: Hash of the file.
        partial: Whether exits and branches that a supernet does not have are dropped instead of rejected.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    unlocked: Mapping[str, tuple[float, ...]] | None
    digest: str
    partial: bool = False

    def unlocked_dims(self, space: SearchSpace) -> dict[str, tuple[float, ...]]:
        """For each dimension of `space`, the values that the file was trained for."""
        trained = self.unlocked
        if trained is None:
            return {dim.name: dim.values for dim in space.dims if dim.name not in (LEVEL, HEIGHT)}
        found = {dim.name: tuple(v for v in trained.get(dim.name, ()) if v in dim.values) for dim in space.dims}
        return {name: values for name, values in found.items() if values}

    def put_into(self, net: Supernet) -> list[str]:
        """Load into a new supernet; returns notes on parts that are only in the file or only in the supernet.

        Raises:
            UserError: Weights of the backbone are missing or have another shape, or the file has unknown ones.
        """
        own = net.state_dict()
        known = {upstream_key(key, set(own)): value for key, value in self.tensors.items()}
        notes = _drop_classifiers(known, own)
        notes += self._drop_additions(known, own)
        unknown = sorted(set(known) - set(own))
        if unknown:
            raise UserError(f"--init-from {self.path} has weights that this supernet does not have: {_some(unknown)}")
        if problem := _shape_problem(known, own):
            raise UserError(f"--init-from {self.path}: {problem}")
        missing = sorted(set(own) - set(known))
        needed = [key for key in missing if not _is_addition(key) and not _is_classifier(key)]
        if needed:
            network = net.backbone.network.__name__
            raise UserError(f"--init-from {self.path} is not a supernet of {network}: it lacks {_some(needed)}")
        nn.Module.load_state_dict(net, known, strict=False)
        notes += _scale_new_branches(net, missing, has_branches=LEVEL in (self.unlocked or ()))
        if fresh := sorted({key.split(".")[1] for key in missing if key.startswith("exits.")}):
            notes.append(f"exits {', '.join(fresh)} are initialized")
        return notes

    def _drop_additions(self, known: dict[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
        """Remove exits and branches that the supernet does not have, if partial loading is allowed."""
        dropped = [key for key in known if key not in own and _is_addition(key)]
        parts = sorted({_addition(key) for key in dropped})
        if dropped and not self.partial:
            raise UserError(
                f"--init-from {self.path} has parts that this supernet does not have: {', '.join(parts)}; "
                "add --init-partial to drop them"
            )
        for key in dropped:
            del known[key]
        return [f"{part} of the file is dropped" for part in parts]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values that identify the file, independent of its location."""
        unlocked = None if self.unlocked is None else {name: list(values) for name, values in self.unlocked.items()}
        return {"digest": self.digest, "unlocked": unlocked, **({"partial": True} if self.partial else {})}

    @property
    def has_exits(self) -> bool:
        """Whether early exits are among the weights."""
        return any(key.startswith("exits.") for key in self.tensors)


def load_initial(path: Path, partial: bool = False) -> InitialWeights:
    """Read a weight file without executing any code in it.

    Args:
        path: The file.
        partial: See `InitialWeights`.

    Raises:
        UserError: The file does not exist, is damaged, or contains no state dict.
    """
    try:
        digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError as error:
        raise UserError(f"--init-from {path} cannot be read: {error.strerror}") from error
    if path.suffix == ".safetensors":
        tensors, meta = load_checkpoint(path)
        unlocked = {name: tuple(values) for name, values in meta.get("unlocked", {}).items()}
        return InitialWeights(path, tensors, unlocked, digest, partial)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds of exceptions for a damaged file
        reason = str(error).partition("\n")[0]
        if "weights_only" in str(error):  # torch recommends weights_only=False, which could execute code
            reason = "it contains other objects than tensors, which are not loaded because they could execute code"
        raise UserError(f"--init-from {path} is damaged or contains more than weights: {reason}") from error
    weights = _state_dict(content)
    if weights is None:
        raise UserError(
            f"--init-from {path} must contain a state dict of finite numbers (or one under 'state_dict'), but it does "
            "not"
        )
    return InitialWeights(path, weights, None, digest, partial)


def _state_dict(content: Any) -> dict[str, Tensor] | None:
    if isinstance(content, Mapping):
        for key in ("state_dict", "model"):
            if isinstance(content.get(key), Mapping):
                content = content[key]
        if content and all(_is_plain(value) for value in content.values()):
            return {str(key).removeprefix("module."): value for key, value in content.items()}
    return None


def _is_plain(value: Any) -> bool:
    """A dense tensor of finite real numbers."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_complex():
        return False
    return not value.is_floating_point() or bool(value.isfinite().all())


def _drop_classifiers(known: dict[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Remove classifiers with a different number of classes."""
    dropped = [k for k in known if k in own and _is_classifier(k) and known[k].shape[:1] != own[k].shape[:1]]
    counts = [(known[k].shape[0] if known[k].ndim else 0, own[k].shape[0]) for k in dropped]
    notes = [
        f"the classifier is initialized: the file has {there} classes, this network {here}" for there, here in counts
    ]
    for key in dropped:
        del known[key]
    return notes[:1]


def _scale_new_branches(net: Supernet, missing: list[str], has_branches: bool) -> list[str]:
    """Scale the output of branches that are missing from the file to nearly 0, if their batch norms allow it.

    Branches without weights are new if the file has no branches at all.
    """
    scaled: set[str] = set()
    others: set[str] = set()
    for block_name, block in net.named_modules():
        if not isinstance(block, ParallelBlock):
            continue
        for name, branch in block.branches.items():
            own = [key for key in net.state_dict() if key.startswith(f"{block_name}.branches.{name}.")]
            if any(key in missing for key in own) or not (own or has_branches):
                (scaled if _scale_to_zero(branch) else others).add(name)
    notes = [f"branch {name!r} is initialized with an output near 0" for name in sorted(scaled - others)]
    return notes + [
        f"branch {name!r} has no batch norm that scales its output: it changes the output from the start"
        for name in sorted(others)
    ]


def _scale_to_zero(branch: Any) -> bool:
    """Scale the batch norms of a branch, starting with the last, until its output is nearly 0; False if this fails."""
    modules = list(branch.modules())
    images = torch.randn(2, branch.config["in_channels"], 8, 8, generator=torch.Generator().manual_seed(0))
    modes = [module.training for module in modules]
    branch.eval()
    norms = [module for module in modules if isinstance(module, nn.BatchNorm2d)]
    scaled = False
    for norm in reversed(norms):
        nn.init.constant_(norm.weight, NEAR_ZERO)
        nn.init.zeros_(norm.bias)
        with torch.no_grad():
            scaled = bool(branch(images).abs().max() < 1000 * NEAR_ZERO)
        if scaled:
            break
    for module, mode in zip(modules, modes, strict=True):
        module.training = mode
    return scaled


def _shape_problem(known: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str | None:
    """The reason why the tensors cannot be loaded; None if their shapes match."""
    wrong = [key for key, value in known.items() if value.shape != own[key].shape]
    if not wrong:
        return None
    key = wrong[0]
    shapes = f"{key} must have the shape {list(own[key].shape)}, but got {list(known[key].shape)}"
    if any(known[k].shape[2:] != own[k].shape[2:] or known[k].ndim != own[k].ndim for k in wrong):
        return f"{shapes}; the file belongs to another network"
    ratio = statistics.median(known[k].shape[0] / own[k].shape[0] for k in wrong)
    return (
        f"the width multiplier differs: the file has about {ratio:.2g} times the channels of this supernet; set "
        f"width_mult to the file's ({shapes})"
    )


def _addition(key: str) -> str:
    """The exit or branch to which a key belongs."""
    if key.startswith("exits."):
        return f"exit {key.split('.')[1]}"
    return f"branch {key.partition('.branches.')[2].split('.')[0]!r}"


def _is_classifier(key: str) -> bool:
    return "classifier." in key


def _is_addition(key: str) -> bool:
    return key.startswith("exits.") or ".branches." in key


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
