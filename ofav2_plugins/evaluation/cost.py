"""Cost of a network: multiply-accumulates."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..models.layers.depthwise import reference_layers


@torch.no_grad()
def count_macs(net: nn.Module, resolution: int) -> int:
    """Multiply-accumulates of one image [1, 3, resolution, resolution]; torch's counter counts each as two."""
    image = torch.zeros(1, 3, resolution, resolution, device=next(net.parameters()).device)
    # The fast layers leave out what meets padding; what counts is the network as it is exported.
    with reference_layers(), FlopCounterMode(display=False) as counter:
        net(image)
    return counter.get_total_flops() // 2
