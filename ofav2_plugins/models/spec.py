"""The eight supernets as rows of a table that compose plugins. No torch here.

Names as in OFAv2: SE (single exit) or EE (early exits), then B (base), D (dense skips), P (parallel blocks), DP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..errors import UserError
from ..plugin import describe_reference, is_reference, reference_name, to_reference
from ..space import MBCONV


@dataclass(frozen=True)
class SupernetSpec:
    """A supernet as plugins. Each is a name, `{"name": ..., setting: value}` or an instance.

    Args:
        branches: Blocks in parallel with the MB block at every position (`ofav2.branches`); none adds no `level`.
        skip: How the blocks of a stage are wired (`ofav2.skips`).
        exits: Where the network can end (`ofav2.exits`).

    Raises:
        UserError: `branches` is not a list of plugins with distinct names, or `skip` or `exits` is not a plugin.
    """

    branches: tuple[Any, ...] = ()
    skip: Any = "residual"
    exits: Any = "final"

    def __post_init__(self) -> None:
        branches = self.branches
        if not isinstance(branches, (list, tuple)) or not all(map(is_reference, branches)):
            raise UserError(f"branches must be a list of plugins, but got {branches!r}")
        names = [reference_name(branch) for branch in branches]
        if len(set(names)) != len(names) or MBCONV in names:
            raise UserError(f"branches must have distinct names other than {MBCONV!r}, but got {branches!r}")
        for part in ("skip", "exits"):
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
        """As JSON-able references to plugins, from which `resolve_spec` makes the spec again."""
        return {
            "branches": [to_reference(branch) for branch in self.branches],
            "skip": to_reference(self.skip),
            "exits": to_reference(self.exits),
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

    A composition is the text "branches=a+b,skip=c,exits=d" or a mapping with these keys; parts that are omitted are
    off. Only a mapping can give plugins settings.

    Raises:
        UserError: Neither a known name nor a composition, or one that has a part twice; lists the known names.
    """
    if isinstance(supernet, SupernetSpec):
        return supernet
    if isinstance(supernet, str) and supernet in VARIANTS:
        return VARIANTS[supernet]
    if isinstance(supernet, Mapping) and supernet and set(supernet) <= set(PARTS):
        return SupernetSpec(**supernet)
    written = [part.partition("=")[::2] for part in supernet.split(",")] if isinstance(supernet, str) else []
    parts: dict[str, Any] = dict(written)
    if not parts or not set(parts) <= set(PARTS) or not all(parts.values()):
        raise UserError(
            f"supernet must be one of {', '.join(VARIANTS)} or a composition such as "
            f"'branches=conv1x1+transform,skip=dense,exits=every_stage', but got {supernet!r}"
        )
    if len(parts) < len(written):
        raise UserError(f"a composition has each of {', '.join(PARTS)} at most once, but got {supernet!r}")
    if "branches" in parts:
        parts["branches"] = tuple(parts["branches"].split("+"))
    return SupernetSpec(**parts)


def supernet_label(supernet: str | Mapping[str, Any] | SupernetSpec) -> str:
    """A short text for people: the name in the table, or the composition with its settings."""
    if isinstance(supernet, str):
        return supernet
    spec = resolve_spec(supernet)
    known = next((name for name, variant in VARIANTS.items() if variant.to_dict() == spec.to_dict()), None)
    branches = "+".join(map(describe_reference, spec.branches))
    parts = {"branches": branches, "skip": describe_reference(spec.skip), "exits": describe_reference(spec.exits)}
    return known or ",".join(f"{part}={value}" for part, value in parts.items() if value)
