"""An error in `set_running_statistics` leaves all dynamic batch norms in the wrong mode.

Symptom: after an exception in `set_running_statistics` (a broken image, Ctrl-C), the class attribute
    `DynamicBatchNorm2d.SET_RUNNING_STATISTICS` stays True, and every later forward pass of a narrower subnet
    fails, in all networks of the process.
Upstream: ofa/imagenet_classification/elastic_nn/utils.py, lines 72-76.
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: the attribute is reset in a `finally`.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from ._support import Defect, replace

_defect = Defect(
    "ofa.imagenet_classification.elastic_nn.utils",
    "forward_model(images)\n        DynamicBatchNorm2d.SET_RUNNING_STATISTICS = False\n",
)


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_reset_always)


def _reset_always(module: ModuleType) -> None:
    def make(original: Callable[..., None]) -> Callable[..., None]:
        def set_running_statistics(*args: Any, **kwargs: Any) -> None:
            try:
                original(*args, **kwargs)
            finally:
                module.DynamicBatchNorm2d.SET_RUNNING_STATISTICS = False

        return set_running_statistics

    replace(module, "set_running_statistics", make)
