"""The eight supernets as rows of a table that compose plugins. No torch here.

Names as in OFAv2: SE (single exit) or EE (early exits), then B (base), D (dense skips), P (parallel blocks), DP.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..errors import UserError
from ..space import MBCONV


@dataclass(frozen=True)
class SupernetSpec:
    """A supernet as plugin names.

    Args:
        branches: Blocks beside the MB block at every position (`ofav2.branches`); none adds no `level` dimension.
        skip: The wiring of a stage (`ofav2.skips`).
        exits: Where the network can end (`ofav2.exits`).

    Raises:
        UserError: `branches` is no list of distinct names, or `skip` or `exits` is no name.
    """

    branches: tuple[str, ...] = ()
    skip: str = "residual"
    exits: str = "final"

    def __post_init__(self) -> None:
        branches = self.branches
        listed = isinstance(branches, (list, tuple)) and all(isinstance(name, str) for name in branches)
        if not listed or len(set(branches)) != len(branches) or MBCONV in branches:
            raise UserError(
                f"branches must be a list of distinct plugin names other than {MBCONV!r}, but got {branches!r}"
            )
        object.__setattr__(self, "branches", tuple(branches))
        for part in ("skip", "exits"):
            if not isinstance(getattr(self, part), str):
                raise UserError(f"{part} must be a plugin's name, but got {getattr(self, part)!r}")

    def to_dict(self) -> dict:
        """As JSON-able plugin names."""
        return {**asdict(self), "branches": list(self.branches)}


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


def resolve_spec(supernet: str | SupernetSpec) -> SupernetSpec:
    """A spec from a name of the table or from a composition.

    A composition is written "branches=a+b,skip=c,exits=d"; parts that are left out are off.

    Raises:
        UserError: Neither a known name nor a composition, or one that has a part twice; lists the known names.
    """
    if isinstance(supernet, SupernetSpec):
        return supernet
    if isinstance(supernet, str) and supernet in VARIANTS:
        return VARIANTS[supernet]
    written = [part.partition("=")[::2] for part in supernet.split(",")] if isinstance(supernet, str) else []
    parts = dict(written)
    if not parts or not set(parts) <= {"branches", "skip", "exits"} or not all(parts.values()):
        raise UserError(
            f"supernet must be one of {', '.join(VARIANTS)} or a composition such as "
            f"'branches=conv1x1+transform,skip=dense,exits=every_stage', but got {supernet!r}"
        )
    if len(parts) < len(written):
        raise UserError(f"a composition has each of branches, skip and exits at most once, but got {supernet!r}")
    branches = tuple(parts.pop("branches").split("+")) if "branches" in parts else ()
    return SupernetSpec(branches=branches, **parts)
