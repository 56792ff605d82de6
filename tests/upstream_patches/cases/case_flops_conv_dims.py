from pathlib import Path

from ofa.utils import profile
from torch import nn

SYMPTOM = r"IndexError: tuple index out of range"


def run(_: Path) -> None:
    for convolution, dimensions in ((nn.Conv2d, 2), (nn.Conv1d, 1), (nn.Conv3d, 3)):
        net = nn.Sequential(convolution(4, 6, 3, padding=1, groups=2))
        flops, _parameters = profile(net, (1, 4, *[5] * dimensions))
        assert flops == 4 * 6 / 2 * 3**dimensions * 5**dimensions
