"""Repairs of defects in the installed `ofa`, one module per defect.

`apply_all()` applies every repair that the installed upstream needs. It imports neither torch nor ofa: the repair
of a module that is not imported yet runs after its import (see `_support.when_imported`), so the order in
which a program imports `ofa` and calls `apply_all()` does not matter.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from types import ModuleType

__all__ = ["Patch", "apply_all", "patches"]


@dataclass(frozen=True)
class Patch:
    """One defect and the module that repairs it with `needed()` and `apply()`."""

    name: str
    summary: str
    module: ModuleType


def patches() -> list[Patch]:
    """All patches of this package, sorted by name."""
    names = sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_"))
    modules = [(name, importlib.import_module(f"{__name__}.{name}")) for name in names]
    return [Patch(name, (module.__doc__ or "").partition("\n")[0], module) for name, module in modules]


def apply_all() -> list[str]:
    """Apply each patch that the installed upstream needs; returns the names of the patches applied by this call."""
    applied = []
    for patch in patches():
        if patch.module.needed():
            patch.module.apply()
            applied.append(patch.name)
    return applied
