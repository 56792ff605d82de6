"""Backbones in addition to upstream's own networks, both small, with weights at which every part matters."""

from __future__ import annotations

import torch
from torch import nn

from ofav2_plugins import registry

from .upstream_nets import randomise

WIDTH = 0.25


def upstream_of(name: str, n_classes: int = 5, seed: int = 0) -> nn.Module:
    """Upstream's network of a backbone, with random batch norms and kernel transforms."""
    backbone = registry.load(registry.BACKBONES, name)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = backbone.network(**backbone.arguments(n_classes, WIDTH, 0))
        net.set_bn_param(*backbone.bn_param)
        randomise(net)
    return net.eval()
