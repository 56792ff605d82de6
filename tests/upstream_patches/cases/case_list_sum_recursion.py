from pathlib import Path

import torch
from ofa.utils import list_mean, list_sum

SYMPTOM = r"RecursionError"


def run(_: Path) -> None:
    assert list_mean(list(range(5001))) == 2500
    assert list_sum([3]) == 3
    assert list_sum([torch.ones(2), torch.ones(2)]).tolist() == [2, 2]
