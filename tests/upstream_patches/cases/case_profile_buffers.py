from pathlib import Path

import torch
from ofa.utils import profile

SYMPTOM = r"AssertionError: \['0.weight', '0.bias', '0.total_ops', '0.total_params'\]"


def run(_: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 4))
    assert profile(net, (1, 3)) == profile(net, (1, 3)) == (12, 16)
    assert list(net.state_dict()) == ["0.weight", "0.bias"], list(net.state_dict())
    assert net[0].total_ops.item() == 12
