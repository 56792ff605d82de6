"""The eight supernets as a table of plugin compositions. No torch here.

Names as in OFAv2: SE (single exit) or EE (early exits), then B (base), D (dense skips), P (parallel blocks), DP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from .. import registry
from ..errors import UserError
from ..plugin import describe_reference, is_reference, reference_name, to_reference


@dataclass(frozen=True)
class SupernetSpec:
    """A supernet described by its plugins. Each plugin is a name, `{"name": ..., setting: value}` or an instance.

    Args:
        backbone: The network that is extended (`ofav2.backbones`).
        branches: Blocks in parallel with the backbone's own block at every position (`ofav2.branches`); without any,
            there is no `level` dimension.
        skip: The wiring of the blocks of a stage (`ofav2.skips`).
        exits: The stages after which the network can end (`ofav2.exits`).

    Raises:
        UserError: `branches` is not a list of plugins with distinct names, or another part is not a plugin.
    """

    backbone: Any = "mobilenet_v3"
    branches: tuple[Any, ...] = ()
    skip: Any = "residual"
    exits: Any = "final"

    def __post_init__(self) -> None:
        branches = self.branches
        if not isinstance(branches, (list, tuple)) or not all(map(is_reference, branches)):
            raise UserError(f"branches must be a list of plugins, but got {branches!r}")
        if len(set(self.branch_names)) != len(branches):
            raise UserError(f"branches must have distinct names, but got {branches!r}")
        for part in ("backbone", "skip", "exits"):
            if not is_reference(getattr(self, part)):
                raise UserError(
                    f"{part} must be a plugin's name or its name and settings, but got {getattr(self, part)!r}"
                )
        object.__setattr__(self, "branches", tuple(branches))

    @property
    def branch_names(self) -> tuple[str, ...]:
        """The branches' names."""
        return tuple(map(reference_name, self.branches))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able references to the plugins, from which `resolve_spec` recreates the spec."""
        return {
            "backbone": to_reference(self.backbone),
            "branches": [to_reference(branch) for branch in self.branches],
            "skip": to_reference(self.skip),
            "exits": to_reference(self.exits),
        }

    def config(self) -> dict[str, Any]:
        """Names and all settings of the plugins, including defaults; loads every plugin.

        Raises:
            PluginError: A plugin cannot be loaded.
        """
        return {
            "backbone": registry.config_of(registry.BACKBONES, self.backbone),
            "branches": [registry.config_of(registry.BRANCHES, branch) for branch in self.branches],
            "skip": registry.config_of(registry.SKIPS, self.skip),
            "exits": registry.config_of(registry.EXITS, self.exits),
        }


PARTS = tuple(part.name for part in fields(SupernetSpec))

PARALLEL = ("conv1x1", "transform")

VARIANTS = {
    "SE_B": SupernetSpec(),
    "SE_D": SupernetSpec(skip="dense"),
    "SE_P": SupernetSpec(branches=PARALLEL),
    "SE_DP": SupernetSpec(branches=PARALLEL, skip="dense"),
    "EE_B": SupernetSpec(exits="every_stage"),
    "EE_D": SupernetSpec(skip="dense", exits="every_stage"),
    "EE_P": SupernetSpec(branches=PARALLEL, exits="every_stage"),
    "EE_DP": SupernetSpec(branches=PARALLEL, skip="dense", exits="every_stage"),
}


def resolve_spec(supernet: str | Mapping[str, Any] | SupernetSpec) -> SupernetSpec:
    """A spec from a name of the table or from a composition.

    A composition is the text "branches=a+b,skip=c,exits=d" or a mapping with these keys; omitted parts are off, and the
    default backbone is MobileNetV3. "EE_D,backbone=resnet50" is the table's entry with another backbone. Plugin
    settings require a mapping.

    Raises:
        UserError: The name is unknown, or the composition is invalid or repeats a part; the message lists the known
            names.
    """
    if isinstance(supernet, SupernetSpec):
        return supernet
    if isinstance(supernet, Mapping) and supernet and set(supernet) <= set(PARTS):
        return SupernetSpec(**supernet)
    texts = supernet.split(",") if isinstance(supernet, str) else []
    base = VARIANTS.get(texts[0]) if texts else None
    written = [part.partition("=")[::2] for part in texts[base is not None :]]
    parts: dict[str, Any] = dict(written)
    if not (parts or base) or not set(parts) <= set(PARTS) or not all(parts.values()):
        raise UserError(
            f"supernet must be one of {', '.join(VARIANTS)} or a composition such as "
            f"'branches=conv1x1+transform,skip=dense,exits=every_stage', but got {supernet!r}"
        )
    if len(parts) < len(written):
        raise UserError(f"a composition has each of {', '.join(PARTS)} at most once, but got {supernet!r}")
    if "branches" in parts:
        parts["branches"] = tuple(parts["branches"].split("+"))
    return replace(base or SupernetSpec(), **parts)


def supernet_label(supernet: str | Mapping[str, Any] | SupernetSpec) -> str:
    """A short readable label: the name in the table, or the composition with its settings."""
    if isinstance(supernet, str):
        return supernet
    spec = resolve_spec(supernet)
    backbone = describe_reference(spec.backbone)
    own = replace(spec, backbone=SupernetSpec.backbone).to_dict()
    known = next((name for name, variant in VARIANTS.items() if variant.to_dict() == own), None)
    if known:
        return known if backbone == SupernetSpec.backbone else f"{known},backbone={backbone}"
    branches = "+".join(map(describe_reference, spec.branches))
    parts = {
        "backbone": "" if backbone == SupernetSpec.backbone else backbone,
        "branches": branches,
        "skip": describe_reference(spec.skip),
        "exits": describe_reference(spec.exits),
    }
    return ",".join(f"{part}={value}" for part, value in parts.items() if value)
