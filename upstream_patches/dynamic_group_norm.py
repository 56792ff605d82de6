"""A dynamic network crashes after its batch norms have been replaced by group norms.

Symptom: AttributeError "'GroupNorm' object has no attribute 'num_features'" in the forward pass of an OFA
    network after `set_bn_param(..., gn_channel_per_group=8)`.
Upstream: ofa/utils/my_modules.py, lines 60-86: `replace_bn_with_gn` puts a GroupNorm inside
    DynamicBatchNorm2d, although a DynamicGroupNorm exists and the state-dict keys expect it.
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: `replace_bn_with_gn` turns DynamicBatchNorm2d into DynamicGroupNorm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._support import Defect, replace

_defect = Defect("ofa.utils.my_modules", "            if isinstance(sub_m, nn.BatchNorm2d):\n")


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(lambda module: replace(module, "replace_bn_with_gn", _dynamic_first))


def _dynamic_first(original: Callable[[Any, int | None], None]) -> Callable[[Any, int | None], None]:
    def replace_bn_with_gn(model: Any, gn_channel_per_group: int | None) -> None:
        if gn_channel_per_group is not None:
            _replace_dynamic(model, gn_channel_per_group)
        original(model, gn_channel_per_group)

    return replace_bn_with_gn


def _replace_dynamic(model: Any, channels: int) -> None:
    from ofa.imagenet_classification.elastic_nn.modules.dynamic_op import DynamicBatchNorm2d, DynamicGroupNorm
    from ofa.utils import min_divisible_value

    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, DynamicBatchNorm2d):
                old, per_group = child.bn, min_divisible_value(child.bn.num_features, channels)
                new = DynamicGroupNorm(
                    old.num_features // per_group, old.num_features, old.eps, channel_per_group=per_group
                )
                new.weight, new.bias = old.weight, old.bias
                setattr(parent, name, new)
