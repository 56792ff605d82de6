import json
from pathlib import Path

import torch
from case_tools import run_manager, small_net, small_resnet
from ofa.utils import count_net_flops

SYMPTOM = r"AssertionError: .* FLOPs"


def run(folder: Path) -> None:
    shape = (1, 3, 32, 32)
    for net in (small_net(), small_resnet()):
        net.sample_active_subnet()
        flops = count_net_flops(net.get_active_subnet(), shape)
        state = torch.get_rng_state()
        assert count_net_flops(net, shape) == flops, f"{count_net_flops(net, shape)} FLOPs"
        assert count_net_flops(torch.nn.DataParallel(net), shape) == flops
        assert torch.equal(state, torch.get_rng_state())
    net.set_max_net()
    run_manager(folder, net)
    text = (folder / "run/net_info.txt").read_text()
    information, _ = json.JSONDecoder().raw_decode(text)
    assert information["flops"] == count_net_flops(net.get_active_subnet(), shape) / 1e6
