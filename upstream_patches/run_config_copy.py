"""A run configuration for ImageNet cannot be copied.

Symptom: TypeError "unexpected keyword argument 'n_worker'" from `ImagenetRunConfig().copy()`.
Upstream: ofa/imagenet_classification/run_manager/run_config.py, line 63: `copy` always constructs a RunConfig.
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: `copy` constructs an object of the configuration's own class.
"""

import copy
from typing import Any

from ._support import Defect, replace

_defect = Defect("ofa.imagenet_classification.run_manager.run_config", "return RunConfig(**self.config)")


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(lambda module: replace(module.RunConfig, "copy", lambda original: _copy))


def _copy(self: Any) -> Any:
    copied = copy.copy(self)
    copied.__dict__.pop("_data_provider", None)  # cached; it depends on the values of the original
    return copied
