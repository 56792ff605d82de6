"""Backbone `resnet50`: upstream's OFAResNets, a ResNet-50-D (OFA, arXiv 1908.09791; arXiv 1812.01187 for the stem)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from ..errors import UserError
from ..models.layers.static import GlobalPool, Layers, MaxPool
from ..space import HEIGHT, LEVEL, Arch, ElasticDim, Requirement
from ..upstream import IdentityLayer, LinearLayer, OFAResNets
from ..utils.validation import is_integer, is_number
from .base import Backbone, Entry, Part

BASE_DEPTHS = tuple(OFAResNets.BASE_DEPTH_LIST)
"""Number of blocks of each stage that are always active."""


class ResNet50(Backbone):
    """OFA's ResNet-50: four stages of bottleneck blocks, elastic in depth (`d`), expand ratio (`e`) and width (`w`).

    `d` has five entries: one for the stem, whose residual layer is active only at the largest value, and one for each
    stage, the number of blocks in addition to its base depth. `w` has six entries, which are indices of width
    multipliers: two for the stem and one for each stage.

    Args:
        depth_list: Numbers of additional blocks that a stage may have.
        expand_ratio_list: Ratios of the middle channels to the output channels of a block.
        width_mult_list: Width multipliers of the stages.

    Raises:
        UserError: A list is empty, or has repeated or invalid values.
    """

    network = OFAResNets
    main_block = "bottleneck"

    def __init__(
        self,
        depth_list: tuple[Any, ...] = (0, 1, 2),
        expand_ratio_list: tuple[Any, ...] = (0.2, 0.25, 0.35),
        width_mult_list: tuple[Any, ...] = (0.65, 0.8, 1.0),
    ):
        integers = isinstance(depth_list, Sequence) and all(is_integer(d) and d >= 0 for d in depth_list)
        if not integers or not depth_list or len(set(depth_list)) != len(depth_list):
            raise UserError(
                f"depth_list must be a list of one or more distinct integers of at least 0, but got {depth_list!r}"
            )
        self.depth_list = tuple(sorted(map(int, depth_list)))
        self.expand_ratio_list = _ratios("expand_ratio_list", expand_ratio_list)
        self.width_mult_list = _ratios("width_mult_list", width_mult_list)

    def arguments(self, n_classes: int, width_mult: float, dropout_rate: float) -> dict[str, Any]:
        return {
            "n_classes": n_classes,
            "dropout_rate": dropout_rate,
            "depth_list": list(self.depth_list),
            "expand_ratio_list": list(self.expand_ratio_list),
            "width_mult_list": [width_mult * own for own in self.width_mult_list],
        }

    def dims(self) -> tuple[ElasticDim, ...]:
        low, high = self.depth_list[0], self.depth_list[-1]
        blocks = [self.requirement(s, i) for s, base in enumerate(BASE_DEPTHS) for i in range(base + high)]
        in_block = tuple((block, Requirement(LEVEL, i, self.main_block)) for i, block in enumerate(blocks))
        in_network = tuple((Requirement(HEIGHT, 0, stage + 1),) for stage in range(len(BASE_DEPTHS)))
        numbers = tuple(range(len(self.width_mult_list)))
        return (
            ElasticDim(
                "d", self.depth_list, 1 + len(BASE_DEPTHS), own_values={0: (low, high) if low < high else (high,)},
                requires=((), *in_network),
            ),
            ElasticDim("e", self.expand_ratio_list, len(blocks), requires=in_block),
            ElasticDim("w", numbers, 2 + len(BASE_DEPTHS), requires=((), (), *in_network)),
        )  # fmt: skip

    def requirement(self, stage: int, index: int) -> Requirement:
        return Requirement("d", stage + 1, index + 1 - BASE_DEPTHS[stage])

    def stem(self, net: Any) -> dict[str, nn.Module]:
        layers = dict(zip(("conv1", "residual", "conv2"), net.input_stem, strict=True))
        if net.input_stem_skipping > 0:
            del layers["residual"]
        return {**layers, "max_pool": MaxPool()}

    def stages(self, net: Any) -> list[list[Any]]:
        return [[net.blocks[i] for i in group] for group in net.grouped_block_index]

    def tail(self, net: Any) -> dict[str, nn.Module]:
        return {"pool": GlobalPool(keep_dim=False), "classifier": net.classifier}

    def head(self, width: int, n_classes: int, dropout: float) -> Layers:
        return Layers(
            {"pool": GlobalPool(keep_dim=False), "classifier": LinearLayer(width, n_classes, dropout_rate=dropout)}
        )

    def activate(self, net: Any, arch: Arch) -> None:
        OFAResNets.set_active_subnet(net, d=list(arch["d"]), e=list(arch["e"]), w=list(arch["w"]))

    def depths(self, arch: Arch) -> list[int]:
        return [base + depth for base, depth in zip(BASE_DEPTHS, arch["d"][1:], strict=True)]

    def widths(self, net: Any) -> list[int]:
        return [net.input_stem[2].active_out_channel, *(blocks[0].active_out_channel for blocks in self.stages(net))]

    def dependencies(self, part: Part) -> tuple[Entry, ...]:
        kind, number = part
        if kind == "stem":
            return (("d", 0), ("w", 0), ("w", 1))
        if kind == "head":
            return (("w", number + 1),)
        if kind == "depth":
            return (("d", number + 1),)
        stage, index = self._place(number)
        widths = (("w", stage + 2),) if index else (("w", stage + 1), ("w", stage + 2))
        return (("e", number), *widths) if kind == "block" else widths

    def _place(self, position: int) -> tuple[int, int]:
        """Stage of a position, and its index within the stage."""
        for stage, base in enumerate(BASE_DEPTHS):
            if position < base + self.depth_list[-1]:
                return stage, position
            position -= base + self.depth_list[-1]
        raise IndexError(position)

    def residual_norms(self, net: Any) -> list[Any]:
        return [block.conv3.bn.bn for block in net.blocks if isinstance(block.downsample, IdentityLayer)]


def _ratios(name: str, values: Any) -> tuple[float, ...]:
    valid = isinstance(values, Sequence) and all(is_number(v) and v > 0 for v in values)
    if not valid or not values or len(set(values)) != len(values):
        raise UserError(f"{name} must be a list of one or more distinct numbers above 0, but got {values!r}")
    return tuple(sorted(map(float, values)))
