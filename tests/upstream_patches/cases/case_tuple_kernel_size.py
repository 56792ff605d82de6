from pathlib import Path

import torch
from ofa.utils.layers import ConvLayer

SYMPTOM = r"TypeError: 'tuple' object does not support item assignment"


def run(_: Path) -> None:
    for size, dilation in ((3, 2), ((3, 5), 1), ((1, 3), 2)):
        layer = ConvLayer(4, 8, kernel_size=size, dilation=dilation)
        assert layer(torch.randn(2, 4, 9, 10)).shape == (2, 8, 9, 10)
        assert layer.module_str.startswith(("3x3", "3x5", "1x3"))
