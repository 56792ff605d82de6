from pathlib import Path

import torch
from case_tools import randomise, same_output
from ofa.imagenet_classification.elastic_nn.modules import (
    DynamicConvLayer,
    DynamicMBConvLayer,
    DynamicResNetBottleneckBlock,
)
from ofa.utils.layers import ConvLayer, MBConvLayer, ResNetBottleneckBlock, set_layer_from_config

SYMPTOM = r"TypeError: 'NoneType' object is not callable"


def run(_: Path) -> None:
    static = MBConvLayer(4, 8, act_func=None), ResNetBottleneckBlock(4, 8, act_func="none")
    for layer in (*static, ConvLayer(4, 8, act_func=None)):
        assert layer(torch.randn(2, 4, 8, 8)).shape == (2, 8, 8, 8)
        assert "O8" in layer.module_str or "8_S1" in layer.module_str
        assert set_layer_from_config(layer.config).load_state_dict(layer.state_dict())
    for dynamic in (
        DynamicConvLayer([4], [8], act_func=None),
        DynamicMBConvLayer([4], [8], 3, [2, 3], act_func=None),
        DynamicResNetBottleneckBlock([4], [8], act_func=None),
    ):
        subnet = randomise(dynamic).get_active_subnet(4)
        assert same_output(dynamic, subnet, channels=4)
        assert (dynamic(torch.randn(2, 4, 8, 8)) < 0).any()
