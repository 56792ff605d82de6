from pathlib import Path

import torch
from case_tools import randomise, same_output
from ofa.imagenet_classification.elastic_nn.modules import (
    DynamicConvLayer,
    DynamicGroupConv2d,
    DynamicSeparableConv2d,
)

SYMPTOM = r"AssertionError: subnet differs"


def run(_: Path) -> None:
    layer = randomise(DynamicConvLayer([4], [8], kernel_size=5, dilation=2))
    assert same_output(layer, layer.get_active_subnet(4), channels=4), "subnet differs"
    images = torch.randn(1, 8, 12, 12)
    assert DynamicSeparableConv2d(8, [3, 5], dilation=2)(images).shape == images.shape
    assert DynamicGroupConv2d(8, 8, [3, 5], [2, 4], dilation=3)(images).shape == images.shape
