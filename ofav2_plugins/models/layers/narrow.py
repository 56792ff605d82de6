"""Modules of plain layers with fewer channels than they were built for.

A backbone with elastic stage widths (OFA's ResNet) needs branches and exits at every width. They share weights like
upstream's elastic convolutions: the plugin builds a narrow module for the narrow width, and each of its tensors is the
leading part of the wide module's tensor of the same name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .accelerate import use_fast_layers


def narrow_template(wide: nn.Module, build: Callable[[], nn.Module]) -> nn.Module:
    """The narrow module without its own storage, for `run_narrow`.

    Args:
        wide: The module at the largest widths.
        build: Builds the module at the narrow widths.

    Raises:
        ValueError: The narrow module has other tensors than the wide one, or larger ones.
    """
    with torch.device("meta"):  # initializes no weights
        template = build()
    for name, tensor in _tensors(template).items():
        _leading(wide, name, tensor)
    for norm, other in _batch_norms(template, wide):
        norm.momentum, norm.eps = other.momentum, other.eps
    use_fast_layers(template)
    return template


def run_narrow(wide: nn.Module, template: nn.Module, x: Tensor) -> Tensor:
    """The narrow module's output for `x`, with gradients and running statistics in the wide module's tensors."""
    template.train(wide.training)
    tensors = {name: _leading(wide, name, tensor) for name, tensor in _tensors(template).items()}
    y: Tensor = functional_call(template, tensors, (x,))
    return y


@torch.no_grad()
def narrow_copy(wide: nn.Module, build: Callable[[], nn.Module]) -> nn.Module:
    """The narrow module with its own tensors, equal to the leading parts of the wide module's."""
    narrow = build()
    for name, tensor in _tensors(narrow).items():
        tensor.copy_(_leading(wide, name, tensor))
    for norm, other in _batch_norms(narrow, wide):
        norm.momentum, norm.eps = other.momentum, other.eps
    return narrow.train(wide.training)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _leading(wide: nn.Module, name: str, narrow: Tensor) -> Tensor:
    """The part of the wide module's tensor `name` that the narrow one shares."""
    path, _, last = name.rpartition(".")
    try:
        tensor: Tensor = getattr(wide.get_submodule(path), last)
    except AttributeError:
        raise ValueError(f"with fewer channels it has a tensor {name!r} that it lacks with more") from None
    if tensor.ndim != narrow.ndim or any(n > w for n, w in zip(narrow.shape, tensor.shape, strict=True)):
        raise ValueError(
            f"with fewer channels its {name!r} has the shape {list(narrow.shape)}, which is not a part of "
            f"{list(tensor.shape)}"
        )
    for dim, size in enumerate(narrow.shape):
        tensor = tensor.narrow(dim, 0, size)
    return tensor


def _batch_norms(narrow: nn.Module, wide: nn.Module) -> list[tuple[Any, Any]]:
    names = [name for name, module in narrow.named_modules() if isinstance(module, nn.BatchNorm2d)]
    return [(narrow.get_submodule(name), wide.get_submodule(name)) for name in names]
