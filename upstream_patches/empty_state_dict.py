"""Networks load an incomplete state dictionary, even an empty one, without an error.

Symptom: `net.load_state_dict({})` succeeds on OFAMobileNetV3, OFAProxylessNASNets, OFAResNets, MobileNetV3
    and ProxylessNASNets, and the network keeps its random weights. `strict` is ignored.
Upstream: ofa/imagenet_classification/elastic_nn/networks/ofa_mbv3.py, lines 209-235, ofa_proxyless.py,
    lines 208-234, ofa_resnets.py, lines 182-198; ofa/imagenet_classification/networks/mobilenet_v3.py and
    proxyless_nets.py, `load_state_dict`: the given values are merged into the network's own.
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: `load_state_dict` reports missing keys, except the two kinds that may be missing (see below).
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from ._support import Defect, replace

_DYNAMIC = "ofa.imagenet_classification.elastic_nn.networks"
_STATIC = "ofa.imagenet_classification.networks"
_defects = {
    "OFAMobileNetV3": Defect(f"{_DYNAMIC}.ofa_mbv3", "model_dict = self.state_dict()\n"),
    "OFAProxylessNASNets": Defect(f"{_DYNAMIC}.ofa_proxyless", "model_dict = self.state_dict()\n"),
    "OFAResNets": Defect(f"{_DYNAMIC}.ofa_resnets", "model_dict = self.state_dict()\n"),
    "MobileNetV3": Defect(f"{_STATIC}.mobilenet_v3", "current_state_dict = self.state_dict()\n"),
    "ProxylessNASNets": Defect(f"{_STATIC}.proxyless_nets", "current_state_dict = self.state_dict()\n"),
}

# Kernel transforms do not exist yet when a network with one kernel size becomes elastic; batch counters do not
# exist in checkpoints of torch < 0.4.1.
_MAY_BE_MISSING = ("_matrix", "num_batches_tracked")


def needed() -> bool:
    return any(defect.present() for defect in _defects.values())


def apply() -> None:
    for name, defect in _defects.items():

        def repair(module: ModuleType, name: str = name) -> None:
            replace(getattr(module, name), "load_state_dict", _reporting)

        defect.repair(repair)


def _reporting(original: Callable[..., None]) -> Callable[..., Any]:
    def load_state_dict(self: Any, state_dict: Any, strict: bool = True, **kwargs: Any) -> Any:
        from torch.nn.modules.module import _IncompatibleKeys

        given = {id(value) for value in state_dict.values()}
        missing: list[str] = []

        # Upstream passes the merged dictionary to nn.Module; a value that is not one of the given objects was missing.
        def find_missing(merged: Any, prefix: str, metadata: Any, *lists: Any) -> None:
            absent = (key for key, value in merged.items() if id(value) not in given)
            missing.extend(key for key in absent if not key.endswith(_MAY_BE_MISSING))
            if strict:
                lists[1].extend(missing)  # torch's list of missing keys: torch raises its usual error

        hook = self._register_load_state_dict_pre_hook(find_missing)
        try:
            original(self, state_dict, **kwargs)
        finally:
            hook.remove()
        return _IncompatibleKeys(missing, [])

    return load_state_dict
