"""Contract of `ofav2.exits` (OFAv2 section 3.3, early exits)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..plugin import Plugin
from ..upstream import ConvLayer, LinearLayer, MyNetwork, layer_from_config, make_divisible

HEAD_PARTS = ("final_expand_layer", "feature_mix_layer", "classifier")


class Exits(Plugin, ABC):
    """Which stages carry an early exit beside the network's own tail."""

    @abstractmethod
    def heads(self, stage_widths: Sequence[int], n_classes: int, dropout: float) -> nn.ModuleDict:
        """The early exits by the 1-based number of the stage they follow ("1", "2", ...), smallest first.

        The last stage is upstream's own tail and never among them. An exit maps that stage's output
        [N, stage_widths[i-1], H, W] to logits [N, n_classes] and has a JSON-able `config` from which
        `head_from_config` makes it again. The elastic dimension `height` exists where this is not empty; its
        values are these numbers and the last stage's.

        Args:
            stage_widths: Output channels of every stage.
            n_classes: Size of the logits.
            dropout: Dropout rate before each classifier.
        """

    def head_from_config(self, config: dict) -> nn.Module:
        """An exit from its `config`; an exit of another shape than `ExitHead` overrides this."""
        return ExitHead.from_config(config)


def head_forward(head: Any, x: Tensor) -> Tensor:
    """A stage's output [N, C, H, W] to logits [N, n_classes], by upstream's tail or an early exit shaped like it."""
    x = head.final_expand_layer(x)  # [N, 6C, H, W]
    x = x.mean(3, keepdim=True).mean(2, keepdim=True)  # [N, 6C, 1, 1]; upstream's order of summing
    x = head.feature_mix_layer(x)  # [N, 8C, 1, 1]
    return head.classifier(x.flatten(1))


def head_config(head: Any) -> dict:
    """The JSON-able configuration of upstream's tail or an early exit shaped like it; see `ExitHead.from_config`."""
    return {part: getattr(head, part).config for part in HEAD_PARTS}


class ExitHead(nn.Module):
    """Upstream's tail as a module: 1x1 conv + BN + h-swish, global pool, 1x1 conv + h-swish, linear classifier."""

    def __init__(self, final_expand_layer: nn.Module, feature_mix_layer: nn.Module, classifier: nn.Module):
        super().__init__()
        self.final_expand_layer = final_expand_layer
        self.feature_mix_layer = feature_mix_layer
        self.classifier = classifier

    @classmethod
    def build(cls, width: int, n_classes: int, dropout: float) -> ExitHead:
        """An exit after a stage of `width` channels: 6x and 8x of it, divisible by 8."""
        expand = make_divisible(6 * width, MyNetwork.CHANNEL_DIVISIBLE)
        mix = make_divisible(8 * width, MyNetwork.CHANNEL_DIVISIBLE)
        return cls(
            ConvLayer(width, expand, kernel_size=1, act_func="h_swish"),
            ConvLayer(expand, mix, kernel_size=1, bias=False, use_bn=False, act_func="h_swish"),
            LinearLayer(mix, n_classes, dropout_rate=dropout),
        )

    @classmethod
    def from_config(cls, config: dict) -> ExitHead:
        """The inverse of `config`."""
        return cls(*(layer_from_config(config[part]) for part in HEAD_PARTS))

    @property
    def config(self) -> dict:
        return head_config(self)

    def forward(self, x: Tensor) -> Tensor:
        return head_forward(self, x)
