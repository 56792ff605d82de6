"""Validation of additional subnets works only once.

Symptom: KeyError 'image_size' in the second validation with the same `additional_setting`, that is, in the
    second epoch of progressive shrinking.
Upstream: ofa/imagenet_classification/elastic_nn/training/progressive_shrinking.py, line 93: `validate` removes
    the image size from the caller's dictionaries.
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: `validate` leaves `additional_setting` unchanged.
"""

from types import ModuleType

from ._support import Defect, edit

_OLD = "for setting, name in subnet_settings:"
_defect = Defect("ofa.imagenet_classification.elastic_nn.training.progressive_shrinking", 'setting.pop("image_size")')


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_pop_from_copy)


def _pop_from_copy(module: ModuleType) -> None:
    edit(module.validate, (_OLD, "for setting, name in [(dict(s), n) for s, n in subnet_settings]:"))
