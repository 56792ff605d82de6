"""The search space: elastic dimensions, architectures, sampling, grids. Does not import torch.

Every dimension is declared by the part that adds it (the backbone: for example ks, e, d; branches: level; exits:
height). Sampling, grids, encodings and phases iterate over the declared dimensions and never depend on plugin names.
Source: OFA (arXiv 1908.09791) section 3; OFAv2 (arXiv 2302.01888) section 3 for level and height.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import UserError
from .utils.seeding import derive_seed

Arch = dict[str, Any]
"""A JSON-able architecture: one entry per dimension, e.g. {"ks": [...], "e": [...], "d": [...], "height": 5}."""

LEVEL = "level"
"""The dimension that branches add: which blocks of a position are active."""

HEIGHT = "height"
"""The dimension that early exits add: the exit at which the network ends."""


@dataclass(frozen=True)
class Requirement:
    """A condition on another entry under which an entry of a dimension is part of the network.

    `Requirement("d", 2, includes=3)`: stage 2 has at least 3 blocks. `Requirement("level", 7, includes="mbconv")`:
    the MB block is active at position 7. If the other entry is itself inactive, so is the entry that requires it. A
    requirement on a dimension that the space does not have always holds.

    Args:
        dim: Name of the other dimension.
        entry: Index of its entry; 0 for a scalar dimension.
        includes: The smallest value, or for a `SubsetDim` the member, that the other entry must include.
    """

    dim: str
    entry: int
    includes: int | str


@dataclass(frozen=True)
class ElasticDim:
    """One elastic dimension. Each entry takes one of its values; the largest value belongs to the maximal network.

    A phase unlocks values ("kernel sizes {5, 7}"). For each unlocked value, an entry with `own_values` takes the
    largest of these that does not exceed it (or the smallest of them).

    Args:
        name: The dimension's name in an architecture ("ks").
        values: All values, ascending. A phase unlocks some of them ("kernel sizes {5, 7}").
        length: Number of entries, or None for a scalar dimension.
        own_values: Entries whose values are not `values`: index -> ascending values.
        requires: For each entry, the conditions under which it is part of the network; empty if it always is.

    Raises:
        UserError: The values are not distinct and ascending, or `requires` has a wrong length.
    """

    name: str
    values: tuple[float, ...]
    length: int | None = None
    own_values: Mapping[int, tuple[float, ...]] = field(default_factory=dict, kw_only=True)
    requires: tuple[tuple[Requirement, ...], ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if self.requires and len(self.requires) != (self.length or 1):
            raise UserError(f"{self.name}: requires must have {self.length or 1} entries, but got {len(self.requires)}")
        for values in (self.values, *self.own_values.values()):
            if not values or list(values) != sorted(set(values)):
                raise UserError(
                    f"{self.name}: the values must be one or more, distinct and ascending, but got {values}"
                )

    def choices(self, values: Sequence[float] | None = None) -> list[Any]:
        """The choices of an entry if `values` are unlocked (default: all values), smallest first."""
        return list(self.values if values is None else values)

    def entry_choices(self, index: int, values: Sequence[float] | None = None) -> list[Any]:
        """The choices of entry `index` if `values` are unlocked (default: all values), smallest first."""
        choices = self.choices(values)
        if index not in self.own_values:
            return choices
        return list(dict.fromkeys(self._entry(index, choice) for choice in choices))

    def _entry(self, index: int, choice: Any) -> Any:
        """Entry `index` of an architecture that has `choice` in every entry."""
        own = self.own_values.get(index)
        if own is None or choice not in self.values:
            return _copy(choice)
        return max((value for value in own if value <= choice), default=own[0])

    def includes(self, choice: Any, part: Any) -> bool:
        """Whether a choice of one entry includes `part`, that is, whether it is at least that value."""
        included: bool = choice >= part
        return included

    def features(self, choice: Any) -> list[int]:
        """One choice as numbers for a predictor: its rank among the values."""
        return [sorted({*self.values, *itertools.chain(*self.own_values.values())}).index(choice)]

    def check(self, value: Any, where: str, index: int = 0) -> Any:
        """`value` of entry `index` in canonical form. Raises ValueError, naming `where`, if it is not allowed."""
        values = self.own_values.get(index, self.values)
        if isinstance(value, bool) or value not in values:
            raise ValueError(f"{where} must be one of {list(values)}, but got {value!r}")
        return values[values.index(value)]

    def broadcast(self, value: Any) -> list[Any]:
        """One value for every entry, or a sequence of the right length, as one value per entry."""
        if isinstance(value, (list, tuple)):
            if self.length is None:
                raise ValueError(f"{self.name} must be one of {list(self.values)}, but got {value!r}")
            if len(value) != self.length:
                raise ValueError(f"{self.name} must have {self.length} entries, but got {len(value)}")
            return list(value)
        return [self._entry(i, value) for i in range(self.length or 1)]

    def parse(self, value: Any) -> Any:
        """A user's value in canonical, complete form: a scalar broadcasts, arrays and tensors count as lists.

        Raises:
            ValueError: Names the wrong entry, the allowed values and the given one.
        """
        entries = self.broadcast(_plain(value))
        if self.length is None:
            return self.check(entries[0], self.name)
        return [self.check(entry, f"{self.name}[{i}]", i) for i, entry in enumerate(entries)]

    def uniform(self, choice: Any) -> Any:
        """The dimension's value with `choice` in every entry."""
        return choice if self.length is None else [self._entry(i, choice) for i in range(self.length)]


@dataclass(frozen=True)
class SubsetDim(ElasticDim):
    """A dimension whose entries are non-empty subsets of `members`; its `values` are the sizes of the subsets.

    This is Elastic Level (OFAv2 section 3.2): which of the blocks at a position are active.

    Args:
        members: The names that subsets consist of, in canonical order.
    """

    members: tuple[str, ...] = field(default=(), kw_only=True)

    def choices(self, values: Sequence[float] | None = None) -> list[list[str]]:
        sizes = self.values if values is None else values
        return [list(c) for size in sizes for c in itertools.combinations(self.members, int(size))]

    def includes(self, choice: Any, part: Any) -> bool:
        """Whether a choice of one entry includes `part`, that is, whether the subset has that member."""
        return part in choice

    def features(self, choice: Any) -> list[int]:
        """One choice as numbers for a predictor: for each member, whether the subset includes it."""
        return [int(member in choice) for member in self.members]

    def check(self, value: Any, where: str, index: int = 0) -> list[str]:
        allowed = f"a non-empty list of distinct names among {list(self.members)}"
        if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
            raise ValueError(f"{where} must be {allowed}, but got {value!r}")
        names = list(value)
        if not names or len(set(names)) != len(names) or not set(names) <= set(self.members):
            raise ValueError(f"{where} must be {allowed}, but got {names!r}")
        if len(names) not in self.values:
            raise ValueError(f"{where} must have a size among {list(self.values)}, but got {names!r}")
        return [m for m in self.members if m in names]

    def broadcast(self, value: Any) -> list[Any]:
        if isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value):
            return [list(value) for _ in range(self.length or 1)]
        return super().broadcast(value)


@dataclass(frozen=True)
class SearchSpace:
    """All architectures of a supernet, or those that the phases so far have unlocked.

    Args:
        dims: The declared dimensions, in the order of an architecture's entries.
        unlocked: The unlocked values of each dimension; a dimension that is missing is unlocked completely.
    """

    dims: tuple[ElasticDim, ...]
    unlocked: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __contains__(self, name: object) -> bool:
        return any(dim.name == name for dim in self.dims)

    def __getitem__(self, name: str) -> ElasticDim:
        for dim in self.dims:
            if dim.name == name:
                return dim
        raise UserError(f"no elastic dimension {name!r}; this space has {[d.name for d in self.dims]}")

    def is_elastic(self, name: str) -> bool:
        """Whether the space has a dimension of this name with more than one value."""
        return name in self and len(self[name].values) > 1

    def unlocked_values(self, name: str) -> tuple[float, ...]:
        """The unlocked values of a dimension, ascending. Raises UserError for an unknown dimension."""
        return tuple(self.unlocked.get(name, self[name].values))

    def restrict(self, unlocks: Mapping[str, Sequence[float]]) -> SearchSpace:
        """The same space with only these values unlocked. Raises UserError for a value that does not exist."""
        unlocked = dict(self.unlocked)
        for name, values in unlocks.items():
            wrong = sorted(set(values) - set(self[name].values))
            if wrong or not values:
                raise UserError(f"{name} unlocks one or more of {list(self[name].values)}, but got {list(values)}")
            unlocked[name] = tuple(sorted(set(values)))
        return replace(self, unlocked=unlocked)

    def max_only(self) -> SearchSpace:
        """The space that contains only the maximal network: every dimension at its largest value."""
        return self.restrict({dim.name: dim.values[-1:] for dim in self.dims})

    def sample(self, rng: random.Random) -> Arch:
        """An architecture drawn from `rng`, uniform over the unlocked choices of each entry.

        Each dimension draws from its own stream: two spaces that share a dimension draw the same values for it
        from the same `rng`, so that the arms of a study stay paired even if their plugins differ.
        """
        base = rng.getrandbits(64)
        arch = {}
        for dim in self.dims:
            stream = random.Random(derive_seed(base, dim.name))
            values = self.unlocked_values(dim.name)
            picks = [_copy(stream.choice(dim.entry_choices(i, values))) for i in range(dim.length or 1)]
            arch[dim.name] = picks[0] if dim.length is None else picks
        return arch

    def max_arch(self) -> Arch:
        """The maximal architecture (of all values, unlocked or not)."""
        return {dim.name: dim.uniform(dim.choices(dim.values[-1:])[0]) for dim in self.dims}

    def min_arch(self) -> Arch:
        """The minimal architecture among the unlocked values (the first choice of each dimension)."""
        return {dim.name: dim.uniform(dim.choices(self.unlocked_values(dim.name))[0]) for dim in self.dims}

    def grid(self, full: Sequence[str] = ()) -> Iterator[Arch]:
        """Uniform architectures (one value throughout the network) over the unlocked values.

        Args:
            full: Dimensions that contribute all of their unlocked values; the others contribute the smallest and
                the largest one.
        """
        axes = []
        for dim in self.dims:
            values = self.unlocked_values(dim.name)
            if dim.name not in full:
                values = tuple(dict.fromkeys((values[0], values[-1])))
            axes.append([dim.uniform(choice) for choice in dim.choices(values)])
        for values in itertools.product(*axes):
            yield {dim.name: _copy(value) for dim, value in zip(self.dims, values, strict=True)}

    def parse(self, settings: Mapping[str, Any], current: Arch | None = None) -> Arch:
        """A complete, canonical architecture from a user's settings.

        Args:
            settings: Dimension -> value; scalars broadcast, None and missing dimensions keep the value of `current`.
            current: The values of missing dimensions (default: the maximal architecture).

        Raises:
            ValueError: An unknown dimension or a wrong value; names the entry, the allowed values and the given one.
        """
        unknown = sorted(set(settings) - {dim.name for dim in self.dims})
        if unknown:
            raise ValueError(f"no elastic dimension {unknown[0]!r}; this network has {[d.name for d in self.dims]}")
        base = self.max_arch() if current is None else current
        return {
            dim.name: _copy(base[dim.name]) if settings.get(dim.name) is None else dim.parse(settings[dim.name])
            for dim in self.dims
        }

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able description of the declared dimensions and their unlocked values (a cache-key input)."""
        described: dict[str, Any] = {}
        for dim in self.dims:
            values = {"values": list(dim.values), "open": list(self.unlocked_values(dim.name)), "length": dim.length}
            own = {str(index): list(values) for index, values in dim.own_values.items()}
            described[dim.name] = {**values, **({"own_values": own} if own else {})}
        return described


def arch_key(arch: Arch) -> str:
    """A canonical string of an architecture, for dictionaries and hashes."""
    return json.dumps(arch, sort_keys=True, separators=(",", ":"))


def _plain(value: Any) -> Any:
    """`value` with numpy arrays, torch tensors and their scalars converted to Python lists and numbers."""
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value.tolist() if hasattr(value, "tolist") else value


def _copy(value: Any) -> Any:
    return [_copy(v) for v in value] if isinstance(value, list) else value
