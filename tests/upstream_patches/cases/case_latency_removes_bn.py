from pathlib import Path

import torch
from case_tools import randomise, run_manager, same_output, small_net
from ofa.utils import measure_net_latency

SYMPTOM = r"AssertionError: the network has changed"


def run(folder: Path) -> None:
    net = randomise(small_net())
    images = torch.randn(2, 3, 32, 32)
    before = net(images)
    net.train()
    latency, measured = measure_net_latency(net, "cpu", input_shape=(3, 32, 32), clean=True)
    assert latency > 0
    assert len(measured["warmup"]) == 5
    training = net.training
    assert torch.equal(before, net.eval()(images)), "the network has changed"
    assert training
    manager = run_manager(folder, net, measure_latency="cpu")
    assert same_output(manager.network, net)
    assert all("forward" not in module.__dict__ for module in net.modules())
