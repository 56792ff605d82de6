"""OFAv2 as plugins for once-for-all: parallel blocks, dense skips, early exits, extended progressive shrinking."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .errors import UserError
    from .layers.accelerate import accelerate
    from .layers.depthwise import reference_layers
    from .registry import PluginError
    from .space import SearchSpace
    from .subnet import Subnet, build_subnet
    from .supernet import Supernet, build_supernet
    from .variants import VARIANTS, SupernetSpec

# Loaded at first use: `ofav2 --help` and whoever needs only the search space do without torch.
_WHERE = {
    "UserError": "errors",
    "accelerate": "layers.accelerate",
    "reference_layers": "layers.depthwise",
    "PluginError": "registry",
    "SearchSpace": "space",
    "Subnet": "subnet",
    "build_subnet": "subnet",
    "Supernet": "supernet",
    "build_supernet": "supernet",
    "VARIANTS": "variants",
    "SupernetSpec": "variants",
}

__all__ = [
    "VARIANTS",
    "PluginError",
    "SearchSpace",
    "Subnet",
    "Supernet",
    "SupernetSpec",
    "UserError",
    "accelerate",
    "build_subnet",
    "build_supernet",
    "reference_layers",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
