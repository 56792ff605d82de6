"""Building a network destroys the configuration that it is built from.

Symptom: KeyError 'name' when a second network is built from the same configuration; a configuration saved
    after building lacks the names of the layers.
Upstream: ofa/utils/layers.py, line 43 (`set_layer_from_config`).
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: `set_layer_from_config` leaves its argument unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._support import Defect, replace

_defect = Defect("ofa.utils.layers", 'layer_config.pop("name")')

Build = Callable[["dict[str, Any] | None"], Any]


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(lambda module: replace(module, "set_layer_from_config", _from_copy))


def _from_copy(original: Build) -> Build:
    def set_layer_from_config(layer_config: dict[str, Any] | None) -> Any:
        # a shallow copy is enough, because layers inside a layer are built by this function too
        return original(None if layer_config is None else dict(layer_config))

    return set_layer_from_config
