"""Base class of OFA's backbones with inverted residual blocks (MBConv; OFA, arXiv 1908.09791, section 3.2)."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..models.layers.depthwise import FastSeparableConv2d
from ..space import HEIGHT, LEVEL, Arch, ElasticDim, Requirement
from ..upstream import IdentityLayer
from ..utils.validation import elastic_values
from .base import Backbone, Entry, Part


class MBConvBackbone(Backbone):
    """Stages of MBConv blocks with elastic kernel size (`ks`), expand ratio (`e`) and depth (`d`).

    Args:
        ks_list: Kernel sizes, odd.
        expand_ratio_list: Expand ratios of the blocks.
        depth_list: Numbers of blocks that a stage may have.

    Raises:
        UserError: A list is empty, or has repeated or invalid values.
    """

    main_block = "mbconv"
    single_block_stages: int = 0
    """Number of stages at the end that have exactly one block."""
    elastic_stages: int = 5
    """Number of stages with an elastic depth."""

    def __init__(
        self,
        ks_list: tuple[Any, ...] = (3, 5, 7),
        expand_ratio_list: tuple[Any, ...] = (3, 4, 6),
        depth_list: tuple[Any, ...] = (2, 3, 4),
    ):
        self.ks_list = elastic_values("ks_list", ks_list, odd=True)
        self.expand_ratio_list = elastic_values("expand_ratio_list", expand_ratio_list)
        self.depth_list = elastic_values("depth_list", depth_list)

    def arguments(self, n_classes: int, width_mult: float, dropout_rate: float) -> dict[str, Any]:
        return {
            "n_classes": n_classes,
            "width_mult": width_mult,
            "dropout_rate": dropout_rate,
            "ks_list": list(self.ks_list),
            "expand_ratio_list": list(self.expand_ratio_list),
            "depth_list": list(self.depth_list),
        }

    def dims(self) -> tuple[ElasticDim, ...]:
        sizes = [self.depth_list[-1]] * self.elastic_stages + [1] * self.single_block_stages
        blocks = [self.requirement(stage, index) for stage, size in enumerate(sizes) for index in range(size)]
        in_block = tuple((block, Requirement(LEVEL, i, self.main_block)) for i, block in enumerate(blocks))
        in_network = tuple((Requirement(HEIGHT, 0, stage + 1),) for stage in range(len(sizes)))
        single = dict.fromkeys(range(self.elastic_stages, len(sizes)), (1,))
        return (
            ElasticDim("ks", self.ks_list, len(blocks), requires=in_block),
            ElasticDim("e", self.expand_ratio_list, len(blocks), requires=in_block),
            ElasticDim("d", self.depth_list, len(sizes), own_values=single, requires=in_network),
        )

    def requirement(self, stage: int, index: int) -> Requirement:
        return Requirement("d", stage, index + 1)

    def prepare(self, net: Any) -> None:
        for block in net.blocks[1:]:
            plain = block.conv.depth_conv.conv
            block.conv.depth_conv.conv = FastSeparableConv2d(
                plain.max_in_channels, plain.kernel_size_list, plain.stride
            )

    def stem(self, net: Any) -> dict[str, nn.Module]:
        return {"first_conv": net.first_conv, "first_block": net.blocks[0]}

    def stages(self, net: Any) -> list[list[Any]]:
        return [[net.blocks[i] for i in group] for group in net.block_group_info]

    def activate(self, net: Any, arch: Arch) -> None:
        for block, kernel, expand in zip(net.blocks[1:], arch["ks"], arch["e"], strict=True):
            block.conv.active_kernel_size = kernel
            block.conv.active_expand_ratio = expand
        net.runtime_depth = self.depths(arch)

    def depths(self, arch: Arch) -> list[int]:
        return list(arch["d"])

    def widths(self, net: Any) -> list[int]:
        return [net.blocks[0].conv.out_channels, *(blocks[-1].conv.out_channels for blocks in self.stages(net))]

    def dependencies(self, part: Part) -> tuple[Entry, ...]:
        kind, number = part
        entries: dict[str, tuple[Entry, ...]] = {
            "block": (("ks", number), ("e", number)),
            "depth": (("d", number),),
        }
        return entries.get(kind, ())

    def stride(self, block: Any) -> int:
        stride: int = block.conv.stride
        return stride

    def act_func(self, block: Any) -> str:
        name: str = block.conv.act_func
        return name

    def residual_norms(self, net: Any) -> list[Any]:
        norms = [block.conv.point_linear.bn for block in net.blocks if isinstance(block.shortcut, IdentityLayer)]
        return [getattr(norm, "bn", norm) for norm in norms]  # an elastic batch norm contains torch's
