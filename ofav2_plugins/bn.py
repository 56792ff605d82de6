"""Re-calibration of batch norms: without it a subnet of a weight-sharing network is near chance."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor, nn


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
