"""The FLOPs counter treats every convolution as two-dimensional.

Symptom: IndexError on a network with Conv1d; with Conv3d the count omits the depth of the kernel.
Upstream: ofa/utils/flops_counter.py, line 16 (`count_convNd`, registered for all three).
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: the size of the kernel is the product of all its dimensions.
"""

from types import ModuleType

from ._support import Defect, edit

_OLD = "m.weight.size()[2] * m.weight.size()[3]"
_defect = Defect("ofa.utils.flops_counter", _OLD)


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_all_dimensions)


def _all_dimensions(module: ModuleType) -> None:
    edit(module.count_convNd, (_OLD, "m.weight[0, 0].numel()"))
