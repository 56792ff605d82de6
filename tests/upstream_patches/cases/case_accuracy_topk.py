from pathlib import Path

import torch
from ofa.utils import accuracy

SYMPTOM = r"RuntimeError: selected index k out of range"


def run(_: Path) -> None:
    labels = torch.tensor([0, 1, 0, 0])
    first, fifth = accuracy(torch.eye(3)[[0, 1, 2, 2]], labels, topk=(1, 5))
    assert (first.item(), fifth.item()) == (50, 100)
    many = accuracy(torch.eye(6)[[0, 1, 0, 0]], labels, topk=(1, 5))
    assert [value.item() for value in many] == [100, 100]
