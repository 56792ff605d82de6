"""Backbone `plain_cnn`: 3x3 convolutions in three stages of elastic depth, without shortcuts (VGG, arXiv 1409.1556)."""

from __future__ import annotations

import itertools
from typing import Any

from torch import nn

from ofav2_plugins.backbones.base import Backbone, Entry, Part
from ofav2_plugins.models.layers.static import GlobalPool, Layers
from ofav2_plugins.space import HEIGHT, Arch, ElasticDim, Requirement
from ofav2_plugins.upstream import ConvLayer, LinearLayer, ResidualBlock

WIDTHS = (32, 32, 64, 128)
"""Channels after the stem and after each stage."""


class PlainNet(nn.Module):
    """A stem, three stages of `depth` convolutions each with batch norm and ReLU, and a linear classifier."""

    def __init__(self, n_classes: int, widths: list[int], depth: int, dropout_rate: float):
        super().__init__()
        self.first_conv = ConvLayer(3, widths[0], kernel_size=3, stride=2)
        self.blocks = nn.ModuleList(
            ResidualBlock(ConvLayer(before if i == 0 else after, after, stride=2 if i == 0 else 1), shortcut=None)
            for before, after in itertools.pairwise(widths)
            for i in range(depth)
        )
        self.classifier = LinearLayer(widths[-1], n_classes, dropout_rate=dropout_rate)
        self.widths, self.depth = widths, depth


class PlainCNN(Backbone):
    """A small convolutional network with elastic depth.

    Args:
        depth_list: Numbers of convolutions that a stage may have.
    """

    network = PlainNet
    main_block = "conv"

    def __init__(self, depth_list: tuple = (1, 2, 3)):
        self.depth_list = tuple(sorted(depth_list))

    def arguments(self, n_classes: int, width_mult: float, dropout_rate: float) -> dict[str, Any]:
        widths = [max(8, round(width * width_mult)) for width in WIDTHS]
        return {"n_classes": n_classes, "widths": widths, "depth": self.depth_list[-1], "dropout_rate": dropout_rate}

    def dims(self) -> tuple[ElasticDim, ...]:
        stages = len(WIDTHS) - 1
        in_network = tuple((Requirement(HEIGHT, 0, stage + 1),) for stage in range(stages))
        return (ElasticDim("d", self.depth_list, stages, requires=in_network),)

    def requirement(self, stage: int, index: int) -> Requirement:
        return Requirement("d", stage, index + 1)

    def stem(self, net: Any) -> dict[str, nn.Module]:
        return {"first_conv": net.first_conv}

    def stages(self, net: Any) -> list[list[Any]]:
        return [list(net.blocks[i : i + net.depth]) for i in range(0, len(net.blocks), net.depth)]

    def tail(self, net: Any) -> dict[str, nn.Module]:
        return {"pool": GlobalPool(keep_dim=False), "classifier": net.classifier}

    def head(self, width: int, n_classes: int, dropout: float) -> Layers:
        classifier = LinearLayer(width, n_classes, dropout_rate=dropout)
        return Layers({"pool": GlobalPool(keep_dim=False), "classifier": classifier})

    def activate(self, net: Any, arch: Arch) -> None:
        pass  # only the depth is elastic

    def depths(self, arch: Arch) -> list[int]:
        return list(arch["d"])

    def widths(self, net: Any) -> list[int]:
        return net.widths

    def stride(self, block: Any) -> int:
        return block.conv.stride

    def act_func(self, block: Any) -> str:
        return block.conv.act_func

    def dependencies(self, part: Part) -> tuple[Entry, ...]:
        return (("d", part[1]),) if part[0] == "depth" else ()
