"""Upstream networks for comparison, with weights at which every part matters."""

from __future__ import annotations

import torch
from torch import nn

from ofav2_plugins.upstream import OFAMobileNetV3

OPTIONS = {"ks_list": [3, 5, 7], "expand_ratio_list": [3, 4, 6], "depth_list": [2, 3, 4]}


def upstream_net(n_classes: int = 10, width_mult: float = 0.25, seed: int = 0, **options) -> OFAMobileNetV3:
    """An upstream supernet whose kernel transforms are not the identity and whose batch norms are not trivial."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = OFAMobileNetV3(n_classes=n_classes, width_mult=width_mult, **{**OPTIONS, **options})
        randomise(net)
    return net


def randomise(net: nn.Module) -> None:
    """Random kernel transforms, batch norm weights and statistics."""
    for name, parameter in net.named_parameters():
        if name.endswith("to5_matrix") or name.endswith("to3_matrix"):
            parameter.data += 0.3 * torch.randn_like(parameter)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
