"""Backbone `mobilenet_v3`: upstream's OFAMobileNetV3 (OFA, arXiv 1908.09791; MobileNetV3, arXiv 1905.02244)."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..models.layers.static import Flatten, GlobalPool, Layers
from ..upstream import ConvLayer, LinearLayer, MyNetwork, OFAMobileNetV3, make_divisible
from .mbconv import MBConvBackbone


class MobileNetV3(MBConvBackbone):
    """OFA's MobileNetV3: five stages of MBConv blocks with squeeze-and-excitation and h-swish."""

    network = OFAMobileNetV3

    def tail(self, net: Any) -> dict[str, nn.Module]:
        return _tail(net.final_expand_layer, net.feature_mix_layer, net.classifier)

    def head(self, width: int, n_classes: int, dropout: float) -> Layers:
        # 6x and 8x of the stage's width, as in the tail (OFAv2 section 3.3).
        expand, mix = (make_divisible(times * width, MyNetwork.CHANNEL_DIVISIBLE) for times in (6, 8))
        return Layers(
            _tail(
                ConvLayer(width, expand, kernel_size=1, act_func="h_swish"),
                ConvLayer(expand, mix, kernel_size=1, bias=False, use_bn=False, act_func="h_swish"),
                LinearLayer(mix, n_classes, dropout_rate=dropout),
            )
        )


def _tail(expand: nn.Module, mix: nn.Module, classifier: nn.Module) -> dict[str, nn.Module]:
    """1x1 conv + BN + h-swish [N, 6C, H, W], pooling, 1x1 conv + h-swish [N, 8C, 1, 1], linear classifier."""
    return {
        "final_expand_layer": expand,
        "pool": GlobalPool(keep_dim=True),
        "feature_mix_layer": mix,
        "flatten": Flatten(),
        "classifier": classifier,
    }
