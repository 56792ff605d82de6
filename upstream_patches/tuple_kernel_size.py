"""ConvLayer accepts one kernel size per dimension but cannot be built with it.

Symptom: TypeError "'tuple' object does not support item assignment" from
    `ConvLayer(8, 8, kernel_size=(3, 5))`.
Upstream: ofa/utils/layers.py, lines 183-184 (`ConvLayer.weight_op`).
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: the padding is not changed in place.
"""

from types import ModuleType

from ._support import Defect, edit

_defect = Defect("ofa.utils.layers", "            padding[0] *= self.dilation\n")


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_new_tuple)


def _new_tuple(module: ModuleType) -> None:
    edit(
        module.ConvLayer.weight_op,
        ("padding[0] *= self.dilation", "padding = tuple(size * self.dilation for size in padding)"),
        ("padding[1] *= self.dilation", "pass"),
    )
