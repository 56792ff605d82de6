"""Progressive shrinking moves every batch to CUDA, regardless of the network's device.

Symptom: RuntimeError or AssertionError (no NVIDIA driver, torch not compiled with CUDA) in the first batch
    of `train_one_epoch`, and therefore in every `train_elastic_*`, on a machine without CUDA.
Upstream: ofa/imagenet_classification/elastic_nn/training/progressive_shrinking.py, line 154.
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: the batch is moved to the device of the run manager or of the network.
"""

from types import ModuleType

from ._support import Defect, edit

_OLD = "images, labels = images.cuda(), labels.cuda()"
_defect = Defect("ofa.imagenet_classification.elastic_nn.training.progressive_shrinking", _OLD)


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_follow_network)


def _follow_network(module: ModuleType) -> None:
    # the network's device, because the distributed run manager has no `device`
    device = "next(dynamic_net.parameters()).device"
    edit(module.train_one_epoch, (_OLD, f"images, labels = images.to({device}), labels.to({device})"))
