"""A subnet with expand ratio 1 lacks a convolution that the dynamic network runs.

Symptom: with `expand_ratio_list=[1, 3]` and active ratio 1, the outputs of the network from
    `get_active_subnet`, or built from `get_active_net_config`, differ from the dynamic network's. No error.
Upstream: ofa/imagenet_classification/elastic_nn/modules/dynamic_layers.py, line 341: the dynamic layer has
    an expanding convolution unless its largest ratio is 1; MBConvLayer has none if its ratio is 1.
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: the configuration of the static layer records whether it has an expanding convolution.
"""

from collections.abc import Callable
from typing import Any

from ._support import Defect, replace

_defect = Defect(
    "ofa.imagenet_classification.elastic_nn.modules.dynamic_layers",
    '"expand_ratio": self.active_expand_ratio,\n            "mid_channels": self.active_middle_channel(',
)


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(lambda module: replace(module.DynamicMBConvLayer, "get_active_subnet_config", _keep_conv))


def _keep_conv(original: Callable[[Any, int], dict[str, Any]]) -> Callable[[Any, int], dict[str, Any]]:
    def get_active_subnet_config(self: Any, in_channel: int) -> dict[str, Any]:
        config = original(self, in_channel)
        if self.inverted_bottleneck is not None and config["expand_ratio"] == 1:
            # As in MobileNetV3Large, None means that the width is `mid_channels`.
            config["expand_ratio"] = None
        return config

    return get_active_subnet_config
