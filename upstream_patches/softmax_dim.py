"""The soft cross entropy does not specify the dimension of its softmax.

Symptom: UserWarning "Implicit dimension choice for log_softmax has been deprecated" in every training step
    with label smoothing, mixup or distillation (an exception if warnings are errors); for predictions with
    three dimensions the softmax is over the batch, and the loss is wrong.
Upstream: ofa/utils/pytorch_utils.py, line 58 (`cross_entropy_loss_with_soft_target`).
Affects: ofa 0.1.0.post202307202001 with torch >= 0.3.
Drop when: the call is `nn.LogSoftmax(dim=1)`, the dimension that the next line sums over.
"""

from types import ModuleType

from ._support import Defect, edit

_defect = Defect("ofa.utils.pytorch_utils", "nn.LogSoftmax()")


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_name_dimension)


def _name_dimension(module: ModuleType) -> None:
    edit(module.cross_entropy_loss_with_soft_target, ("nn.LogSoftmax()", "nn.LogSoftmax(dim=1)"))
