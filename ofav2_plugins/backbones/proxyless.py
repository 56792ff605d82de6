"""Backbone `proxyless`: upstream's OFAProxylessNASNets (OFA, arXiv 1908.09791; ProxylessNAS, arXiv 1812.00332)."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..models.layers.static import GlobalPool, Layers
from ..upstream import ConvLayer, LinearLayer, MyNetwork, OFAProxylessNASNets, make_divisible
from .mbconv import MBConvBackbone


class Proxyless(MBConvBackbone):
    """OFA's ProxylessNAS: five stages of elastic depth and one of a single block, MBConv blocks with ReLU6."""

    network = OFAProxylessNASNets
    bn_param = (0.1, 1e-3)
    single_block_stages = 1

    def tail(self, net: Any) -> dict[str, nn.Module]:
        return _tail(net.feature_mix_layer, net.classifier)

    def head(self, width: int, n_classes: int, dropout: float) -> Layers:
        mix = make_divisible(4 * width, MyNetwork.CHANNEL_DIVISIBLE)  # the tail: 320 to 1280 channels
        return Layers(
            _tail(
                ConvLayer(width, mix, kernel_size=1, act_func="relu6"),
                LinearLayer(mix, n_classes, dropout_rate=dropout),
            )
        )


def _tail(mix: nn.Module, classifier: nn.Module) -> dict[str, nn.Module]:
    """1x1 conv + BN + ReLU6 [N, 4C, H, W], pooling [N, 4C], linear classifier."""
    return {"feature_mix_layer": mix, "pool": GlobalPool(keep_dim=False), "classifier": classifier}
