"""Splitting multi-exit networks: segments between exits, networks with fewer exits, and the cost by exit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..models.layers.depthwise import reference_layers
from ..models.subnet import Subnet, build_subnet
from ..skips.base import Skip
from .exit_choice import ExitCosts


class Segment(nn.Module):
    """The part of a multi-exit network from one exit to the next one.

    Maps the images or the features of the previous segment, [N, C, H, W], to its own features and the logits of its
    exit, [N, n_classes]; the last segment returns only the logits.

    Args:
        stem: Layers before the first stage; empty in later segments.
        stages: The blocks of each of its stages.
        skip: The wiring within a stage.
        head: The exit.
        last: Whether it is the last segment.
    """

    def __init__(self, stem: nn.Module, stages: nn.ModuleList, skip: Skip, head: nn.Module, last: bool):
        super().__init__()
        self.stem, self.stages, self.skip, self.head, self.last = stem, stages, skip, head, last

    def trunk(self, x: Tensor) -> Tensor:
        """The segment's features."""
        x = self.stem(x)
        blocks: Any
        for blocks in self.stages:
            x = self.skip.run(blocks, x)
        return x

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.trunk(x)
        return (self.head(x),) if self.last else (x, self.head(x))


def split_at_exits(net: Subnet) -> list[Segment]:
    """The segments of a static network, one per exit; they share its modules."""
    stem: nn.Module = net.stem
    segments, start = [], 0
    for number, head in net.exits.items():
        stages = net.stages[start : int(number)]
        segments.append(Segment(stem, stages, net.skip, head, last=int(number) == len(net.stages)))
        stem, start = nn.Identity(), int(number)
    return [segment.train(net.training) for segment in segments]


def keep_exits(net: Subnet, numbers: Sequence[int], multi_exit: bool = True) -> Subnet:
    """A copy of a multi-exit network with only these exits, truncated after the last one."""
    config = net.config
    config["stages"] = config["stages"][: max(numbers)]
    config["exits"] = {str(number): config["exits"][str(number)] for number in sorted(numbers)}
    config["multi_exit"] = multi_exit
    kept = build_subnet(config)
    state = net.state_dict()
    kept.load_state_dict({name: state[name] for name in kept.state_dict()})
    return kept.train(net.training)


@torch.no_grad()
def exit_costs(net: Subnet, resolution: int) -> ExitCosts:
    """The multiply-accumulates of one image [1, 3, resolution, resolution], by exit."""
    x = torch.zeros(1, 3, resolution, resolution)
    trunk, heads = [0], []
    with reference_layers():  # the fast layers skip taps on padding; an exported network does not
        for segment in split_at_exits(net):
            with FlopCounterMode(display=False) as counter:
                x = segment.trunk(x)
            trunk.append(trunk[-1] + counter.get_total_flops() // 2)
            with FlopCounterMode(display=False) as counter:
                segment.head(x)
            heads.append(counter.get_total_flops() // 2)
    return ExitCosts(tuple(trunk[1:]), tuple(heads))
