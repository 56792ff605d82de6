"""Batch norms of static networks: recalibration (without it, accuracy is near chance) and folding for evaluation."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrize import is_parametrized

from ..upstream import My2DLayer
from .layers.accelerate import FastDepthwise
from .layers.normalization import FastBatchNorm2d
from .layers.pointwise import FastPointwise


@torch.no_grad()
def recalibrate_bn(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of every batch norm with their mean over `batches` (each [N, 3, R, R]).

    Works on static networks, including subclasses of BatchNorm2d. Momentum and training mode are restored afterwards,
    even after an exception.

    Raises:
        ValueError: There are no batches; the statistics are unchanged.
    """
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        raise ValueError("batches must be one or more batches of images, but got none")
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    training = {module: module.training for module in net.modules()}
    net.eval()
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch's cumulative mean
            norm.train()
        for images in itertools.chain([first], batches):
            net(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in training.items():
            module.training = mode


def fold_bn(net: nn.Module) -> None:
    """Fold each batch norm that directly follows a convolution into it, in place; this halves evaluation time.

    Only plain layers without hooks are folded, and only in containers that run their layers in order.

    Args:
        net: A network in evaluation mode. Afterwards it can only be used for evaluation; its outputs change only by
            rounding.
    """
    for module in list(net.modules()):
        if type(module).forward not in (nn.Sequential.forward, My2DLayer.forward):
            continue
        children = list(module._modules.items())  # named_children omits duplicates
        parts = [part for _, part in children]
        for (first, conv), (second, norm) in itertools.pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and parts.count(conv) == 1:
                if _is_plain(conv) and _is_plain(norm) and norm.track_running_stats:
                    setattr(module, first, fuse_conv_bn_eval(conv, norm))
                    setattr(module, second, nn.Identity())


def _is_plain(module: nn.Module) -> bool:
    """Whether a layer is a plain torch layer: no subclass, no hooks, no weight norm or pruning."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    known = type(module) in (nn.Conv2d, FastPointwise, FastDepthwise, nn.BatchNorm2d, FastBatchNorm2d)
    return known and not hooks and not is_parametrized(module)
