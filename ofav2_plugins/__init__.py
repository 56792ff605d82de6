"""OFAv2 as plugins for once-for-all: parallel blocks, dense skips, early exits, extended progressive shrinking."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .deploy.bundle import load_bundle
    from .errors import UserError
    from .evaluation.cost import Cost, cost, costs
    from .execution.open_run import OpenRun, open_run
    from .models.layers.accelerate import accelerate
    from .models.layers.depthwise import reference_layers
    from .models.spec import VARIANTS, SupernetSpec
    from .models.subnet import Subnet, build_subnet
    from .models.supernet import Supernet, build_supernet
    from .plugin import PluginError
    from .space import SearchSpace

# Loaded at first use, so that `ofav2 --help` and users of only the search space do not import torch.
_WHERE = {
    "UserError": "errors",
    "load_bundle": "deploy.bundle",
    "accelerate": "models.layers.accelerate",
    "reference_layers": "models.layers.depthwise",
    "OpenRun": "execution.open_run",
    "open_run": "execution.open_run",
    "PluginError": "registry",
    "SearchSpace": "space",
    "Subnet": "models.subnet",
    "build_subnet": "models.subnet",
    "Cost": "evaluation.cost",
    "cost": "evaluation.cost",
    "costs": "evaluation.cost",
    "Supernet": "models.supernet",
    "build_supernet": "models.supernet",
    "VARIANTS": "models.spec",
    "SupernetSpec": "models.spec",
}

__all__ = [
    "VARIANTS",
    "Cost",
    "OpenRun",
    "PluginError",
    "SearchSpace",
    "Subnet",
    "Supernet",
    "SupernetSpec",
    "UserError",
    "accelerate",
    "build_subnet",
    "build_supernet",
    "cost",
    "costs",
    "load_bundle",
    "open_run",
    "reference_layers",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
