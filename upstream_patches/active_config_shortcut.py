"""The active configuration of OFAResNets contains a layer instead of the layer's configuration.

Symptom: `ResNets.build_from_config(net.get_active_net_config())` raises AttributeError "'IdentityLayer'
    object has no attribute 'pop'"; `json.dumps` of the configuration raises TypeError.
Upstream: ofa/imagenet_classification/elastic_nn/networks/ofa_resnets.py, lines 311-314.
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: `OFAResNets.get_active_net_config` returns plain data only.
"""

from collections.abc import Callable
from typing import Any

from ._support import Defect, replace

_defect = Defect("ofa.imagenet_classification.elastic_nn.networks.ofa_resnets", '"shortcut": IdentityLayer(')


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(lambda module: replace(module.OFAResNets, "get_active_net_config", _plain))


def _plain(original: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    def get_active_net_config(self: Any) -> dict[str, Any]:
        config = original(self)
        for layer in config["input_stem"]:
            if hasattr(layer.get("shortcut"), "config"):
                layer["shortcut"] = layer["shortcut"].config
        return config

    return get_active_net_config
