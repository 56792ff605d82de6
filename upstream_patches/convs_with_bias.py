"""Weight standardisation cannot be turned on in a network that has convolutions with a bias.

Symptom: RuntimeError "Boolean value of Tensor with more than one value is ambiguous" from
    `net.set_bn_param(momentum, eps, ws_eps=...)` when the network has squeeze-and-excite layers.
Upstream: ofa/utils/my_modules.py, line 96 (`replace_conv2d_with_my_conv2d`).
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: the test is `sub_module.bias is None`.
"""

from types import ModuleType

from ._support import Defect, edit

_defect = Defect("ofa.utils.my_modules", "and not sub_module.bias:")


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_compare_with_none)


def _compare_with_none(module: ModuleType) -> None:
    edit(
        module.replace_conv2d_with_my_conv2d,
        ("and not sub_module.bias:", "and sub_module.bias is None:"),
    )
