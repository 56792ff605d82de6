import copy
from pathlib import Path

from ofa.imagenet_classification.networks import MobileNetV2, MobileNetV3, MobileNetV3Large, ProxylessNASNets
from ofa.utils.layers import set_layer_from_config

SYMPTOM = r"KeyError: 'name'"


def run(_: Path) -> None:
    for net, build in (
        (MobileNetV3Large(), MobileNetV3.build_from_config),
        (MobileNetV2(), ProxylessNASNets.build_from_config),
        (MobileNetV2().blocks[1], set_layer_from_config),
    ):
        config = net.config
        before = copy.deepcopy(config)
        assert build(config).module_str == build(config).module_str
        assert config == before
    assert set_layer_from_config(None) is None
