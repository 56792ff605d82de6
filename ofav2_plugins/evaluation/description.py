"""Description of a plugin: its settings and, for a part of a network, its elastic dimensions and cost."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from .. import registry
from ..errors import UserError
from ..models.spec import SupernetSpec
from ..models.supernet import Supernet, build_supernet
from ..registry import PluginInfo
from ..space import ElasticDim
from .cost import count_macs

N_CLASSES = 1000
"""Number of classes of the networks whose cost is given."""


@dataclass(frozen=True)
class NetworkCost:
    """Cost of a maximal network with a plugin, with all of its exits.

    Args:
        backbone: Name of the backbone.
        n_classes: Size of the logits.
        width_mult: Width multiplier.
        resolution: Height and width of the image in pixels.
        params: Parameters.
        macs: Multiply-accumulates of one image.
        added_params: Parameters that the plugin adds to the backbone's own network; 0 for a backbone.
        added_macs: Multiply-accumulates that it adds.
    """

    backbone: str
    n_classes: int
    width_mult: float
    resolution: int
    params: int
    macs: int
    added_params: int
    added_macs: int


@dataclass(frozen=True)
class Description:
    """A plugin.

    Args:
        plugin: Its row in `ofav2 plugins`.
        documentation: The docstring of its class.
        dimensions: Elastic dimensions that it adds; empty if it is not a part of a network.
        cost: Cost of the maximal network with it; None if it is not a part of a network.
    """

    plugin: PluginInfo
    documentation: str
    dimensions: tuple[ElasticDim, ...]
    cost: NetworkCost | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return {
            **vars(self.plugin),
            "documentation": self.documentation,
            "dimensions": [
                {"name": dim.name, "values": dim.choices(), "entries": dim.length or 1} for dim in self.dimensions
            ],
            "cost": None if self.cost is None else vars(self.cost),
        }


def describe_plugin(name: str, width_mult: float, resolution: int) -> list[Description]:
    """The plugins of this name; more than one if several namespaces have it.

    Args:
        name: The plugin's name, or "namespace/name" (`ofav2.skips/dense`).
        width_mult: Width multiplier of the networks whose cost is given.
        resolution: Height and width of their images in pixels.

    Raises:
        UserError: No plugin has this name (lists the known ones), or it does not load.
    """
    if not 1 <= resolution <= 4096:
        raise UserError(f"resolution must be in 1..4096, but got {resolution}")
    rows = registry.describe()
    found = [row for row in rows if name in (row.name, f"{row.namespace}/{row.name}")]
    if not found:
        known = ", ".join(sorted({row.name for row in rows}))
        raise UserError(f"there is no plugin {name!r}; registered plugins: {known}")
    for row in found:
        if row.problem:
            raise UserError(f"plugin {row.name!r} of {row.namespace} does not load: {row.problem}")
    return [_described(row, width_mult, resolution) for row in found]


def _described(row: PluginInfo, width_mult: float, resolution: int) -> Description:
    documentation = inspect.getdoc(registry.load_class(row.namespace, row.name)) or ""
    spec = _composition(row)
    if spec is None:
        return Description(row, documentation, (), None)
    plain = _maximal(SupernetSpec(backbone=spec.backbone), width_mult)
    net = _maximal(spec, width_mult)
    own = () if row.namespace == registry.BACKBONES else tuple(dim.name for dim in plain.space.dims)
    params, macs = _cost(net, resolution)
    base = _cost(plain, resolution)
    added = params - base[0], macs - base[1]
    cost = NetworkCost(spec.backbone, N_CLASSES, width_mult, resolution, params, macs, *added)
    return Description(row, documentation, tuple(dim for dim in net.space.dims if dim.name not in own), cost)


def _composition(row: PluginInfo) -> SupernetSpec | None:
    """The backbone's own network plus only the plugin; None if it is not a part of a network."""
    parts: dict[str, dict[str, Any]] = {
        registry.BACKBONES: {"backbone": row.name},
        registry.BRANCHES: {"branches": (row.name,)},
        registry.SKIPS: {"skip": row.name},
        registry.EXITS: {"exits": row.name},
    }
    return SupernetSpec(**parts[row.namespace]) if row.namespace in parts else None


def _maximal(spec: SupernetSpec, width_mult: float) -> Supernet:
    return build_supernet(spec, N_CLASSES, width_mult=width_mult)


def _cost(net: Supernet, resolution: int) -> tuple[int, int]:
    """Parameters and MACs of the static network with all exits."""
    static = net.get_multi_exit_subnet(preserve_weight=False).eval()
    return sum(p.numel() for p in static.parameters()), count_macs(static, resolution)
