import warnings
from pathlib import Path

import torch
from ofa.utils import cross_entropy_loss_with_soft_target, cross_entropy_with_label_smoothing

SYMPTOM = r"UserWarning: Implicit dimension choice for log_softmax"


def run(_: Path) -> None:
    warnings.simplefilter("error")
    logits, labels = torch.randn(4, 5), torch.tensor([0, 1, 2, 3])
    loss = cross_entropy_with_label_smoothing(logits, labels, 0.1)
    assert torch.isclose(loss, torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1))
    logits, target = torch.randn(2, 5, 3), torch.rand(2, 5, 3).softmax(1)
    loss = cross_entropy_loss_with_soft_target(logits, target)
    assert torch.isclose(loss, torch.nn.functional.cross_entropy(logits, target))
