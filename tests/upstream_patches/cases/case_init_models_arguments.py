from pathlib import Path

import torch
from case_tools import run_manager, small_net

SYMPTOM = r"AttributeError: 'str' object has no attribute 'modules'"


def run(folder: Path) -> None:
    net = small_net()
    torch.nn.init.constant_(net.classifier.linear.bias, 3)
    manager = run_manager(folder, net, init=True)
    assert manager.network.classifier.linear.bias.abs().sum() == 0
