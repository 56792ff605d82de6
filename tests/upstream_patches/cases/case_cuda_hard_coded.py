import math
from argparse import Namespace
from pathlib import Path

from case_tools import run_manager, small_net
from ofa.imagenet_classification.elastic_nn.training import train_one_epoch

SYMPTOM = r"NVIDIA|CUDA"


def run(folder: Path) -> None:
    manager = run_manager(folder, small_net())
    before = manager.network.classifier.linear.weight.clone()
    args = Namespace(kd_ratio=0, dynamic_batch_size=2)
    loss, (top1, top5) = train_one_epoch(manager, args, epoch=0)
    assert math.isfinite(loss)
    assert 0 <= top1 <= top5 <= 100
    assert not before.equal(manager.network.classifier.linear.weight)
