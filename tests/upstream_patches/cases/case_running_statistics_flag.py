from pathlib import Path

import torch
from case_tools import small_net
from ofa.imagenet_classification.elastic_nn.utils import set_running_statistics

SYMPTOM = r"RuntimeError: running_mean should contain"


def run(_: Path) -> None:
    net = small_net()
    images = torch.randn(2, 3, 32, 32)
    set_running_statistics(net, [(images, None)])
    assert net.first_conv.bn.running_mean.abs().sum() > 0
    try:
        set_running_statistics(net, [("a broken image", None)])
    except AttributeError:
        pass
    else:
        raise AssertionError("no error from a broken image")
    net.set_active_subnet(e=3)
    net(images)
