"""Mixup is silently disabled if its parameter is an integer.

Symptom: `ImagenetRunConfig(mixup_alpha=1)`, or a run.config file with 1 instead of 1.0, trains without mixup.
Upstream: ofa/imagenet_classification/run_manager/run_manager.py, lines 75 and 343, and
    distributed_run_manager.py, lines 80 and 366: `isinstance(mixup_alpha, float)`.
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: these tests accept an integer, or RunConfig converts it to a float.
"""

from collections.abc import Callable
from typing import Any

from ._support import Defect, replace

_defect = Defect("ofa.imagenet_classification.run_manager.run_config", "        self.mixup_alpha = mixup_alpha\n")


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(lambda module: replace(module.RunConfig, "__init__", _float_alpha))


def _float_alpha(original: Callable[..., None]) -> Callable[..., None]:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if type(self.mixup_alpha) is int and self.mixup_alpha > 0:  # 0 means "no mixup"
            self.mixup_alpha = float(self.mixup_alpha)

    return __init__
