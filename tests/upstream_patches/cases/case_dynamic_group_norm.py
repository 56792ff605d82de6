from pathlib import Path

import torch
from case_tools import same_output, small_net, small_resnet

SYMPTOM = r"AttributeError: 'GroupNorm' object has no attribute 'num_features'"


def run(_: Path) -> None:
    for net in (small_net(), small_resnet()):
        net.set_bn_param(momentum=0.1, eps=1e-5, gn_channel_per_group=8)
        for module in net.modules():
            assert not isinstance(module, torch.nn.BatchNorm2d)
            if isinstance(module, torch.nn.GroupNorm):
                module.weight.data.uniform_(0.5, 1.5)
        net.sample_active_subnet()
        subnet = net.get_active_subnet()
        assert same_output(net, subnet)
        net.set_max_net()
        net.load_state_dict(net.get_active_subnet().state_dict())
