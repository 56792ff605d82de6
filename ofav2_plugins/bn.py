"""Batch norms of static networks: re-calibrated (without it a subnet is near chance), and folded for evaluation."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .upstream import My2DLayer


@torch.no_grad()
def recalibrate_bn(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of every batch norm by their mean over `batches` (of [N, 3, R, R]).

    Works on static networks; subclasses of BatchNorm2d are included. Momentum and training mode are as before
    afterwards, also when an exception passes.

    Raises:
        ValueError: There are no batches; the statistics are as before.
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
    """Fold, in place, each batch norm that directly follows a convolution into it: half the time of an evaluation.

    Args:
        net: A network in evaluation mode; afterwards it can only be evaluated, and its outputs are the same but for
            rounding.
    """
    for module in list(net.modules()):
        if isinstance(module, (nn.Sequential, My2DLayer)):  # both run their children in order
            children = list(module.named_children())
            for (first, conv), (second, norm) in itertools.pairwise(children):
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    setattr(module, first, fuse_conv_bn_eval(conv, norm))
                    setattr(module, second, nn.Identity())
