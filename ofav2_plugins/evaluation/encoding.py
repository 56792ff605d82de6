"""Architectures as integer arrays, for cost formulas, predictors and searchers. No torch here.

Entries that are not part of the network (blocks beyond the depth, stages beyond the exit, kernel sizes of an absent MB
block) do not distinguish architectures: `canonical` sets them to a fixed value. The dimensions declare which entries
these are (`ElasticDim.requires`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError
from ..space import Arch, ElasticDim, Requirement, SearchSpace

ABSENT = -1
"""The feature of an entry that is not part of the network."""


class Conditions(NamedTuple):
    """K lists of up to R requirements each, as arrays.

    Args:
        columns: [K, R]: the gene of each requirement; -1 for none.
        starts: [K, R]: the start of its part of `table`.
        table: Whether the requirement holds, for each value of that gene.
        always: [K, R]: whether there is no requirement.
    """

    columns: np.ndarray
    starts: np.ndarray
    table: np.ndarray
    always: np.ndarray


class Encoding:
    """The integer encoding of a space: one gene per entry, numbering the unlocked choices of its dimension.

    Codes are integer arrays [N, G]: N architectures, G genes in the order of the dimensions and their entries.

    Args:
        space: The space; only its unlocked values are encoded.

    Raises:
        UserError: Requirements depend on each other in a cycle.
    """

    def __init__(self, space: SearchSpace):
        self.space = space
        self.genes = [(dim.name, entry) for dim in space.dims for entry in range(dim.length or 1)]
        self.column = {gene: column for column, gene in enumerate(self.genes)}
        values = {dim.name: space.unlocked_values(dim.name) for dim in space.dims}
        self._choices = {gene: space[gene[0]].entry_choices(gene[1], values[gene[0]]) for gene in self.genes}
        self._rank = {gene: {_key(choice): i for i, choice in enumerate(c)} for gene, c in self._choices.items()}
        self.upper = np.array([len(self._choices[gene]) - 1 for gene in self.genes], dtype=np.int64)
        """[G]: the largest value of each gene; the smallest is 0."""
        self._conditions = self.conditions([self._required(name, entry) for name, entry in self.genes])
        self._levels = self._depth()

    def choices(self, name: str, entry: int = 0) -> list[Any]:
        """The unlocked choices of one entry of a dimension, in the order of the gene's values."""
        return self._choices[name, entry]

    def encode(self, archs: Sequence[Arch]) -> np.ndarray:
        """Codes [N, G] of complete architectures.

        Raises:
            ValueError: An entry is missing, wrong, or not among the unlocked values.
        """
        return np.array([self._code(arch) for arch in archs], dtype=np.int64).reshape(len(archs), len(self.genes))

    def decode(self, codes: np.ndarray) -> list[Arch]:
        """The architectures of codes [N, G]. Raises ValueError for a wrong shape or a gene out of range."""
        codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != len(self.genes):
            raise ValueError(f"codes must have shape [N, {len(self.genes)}], but got {list(codes.shape)}")
        wrong = np.argwhere((codes < 0) | (codes > self.upper))
        if len(wrong):
            row, column = wrong[0]
            name, entry = self.genes[column]
            raise ValueError(f"{name}[{entry}] must be in 0..{self.upper[column]}, but got {codes[row, column]}")
        return [self._arch(code) for code in codes.tolist()]

    def active(self, codes: np.ndarray) -> np.ndarray:
        """Boolean mask [N, G] of the genes that are part of the network."""
        active = np.ones(codes.shape, dtype=bool)
        for _ in range(self._levels):  # a requirement on an inactive entry does not hold
            active = self.hold(self._conditions, codes, active)
        return active

    def canonical(self, codes: np.ndarray) -> np.ndarray:
        """The codes with every gene that is not part of the network set to 0; equal networks have equal codes."""
        return np.where(self.active(codes), codes, 0)

    def canonical_arch(self, arch: Arch) -> Arch:
        """The canonical form of one architecture."""
        return self.decode(self.canonical(self.encode([arch])))[0]

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Canonical codes [n, G], uniform over the choices of each gene before inactive ones are removed."""
        return self.canonical(rng.integers(0, self.upper + 1, size=(n, len(self.genes))))

    def features(self, codes: np.ndarray) -> np.ndarray:
        """Features for predictors: integers [N, F] of each entry as its dimension declares, `ABSENT` if inactive."""
        columns = [table[codes[:, column]] for column, table in enumerate(self._features)]
        present = np.repeat(self.active(codes), [table.shape[1] for table in self._features], axis=1)
        return np.where(present, np.concatenate(columns, axis=1), ABSENT)

    @cached_property
    def _features(self) -> list[np.ndarray]:
        """For each gene a table [choices, features]."""
        dims = {dim.name: dim for dim in self.space.dims}
        return [np.array([dims[gene[0]].features(choice) for choice in self._choices[gene]]) for gene in self.genes]

    def conditions(self, required: Sequence[Sequence[Requirement]]) -> Conditions:
        """K lists of requirements, prepared for `hold`."""
        known = [[r for r in requirements if r.dim in self.space] for requirements in required]
        columns = np.full((len(known), max([1, *map(len, known)])), -1)  # -1: no requirement
        tables = np.ones((*columns.shape, int(self.upper.max()) + 1), dtype=bool)
        for row, requirements in enumerate(known):
            for place, requirement in enumerate(requirements):
                dim = self.space[requirement.dim]
                columns[row, place] = self._column(dim, requirement.entry)
                choices = self._choices[requirement.dim, requirement.entry]
                tables[row, place, : len(choices)] = [dim.includes(choice, requirement.includes) for choice in choices]
        starts = np.arange(columns.size).reshape(columns.shape) * tables.shape[2]
        return Conditions(columns, starts, tables.ravel(), columns < 0)

    def hold(self, conditions: Conditions, codes: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Boolean mask [N, K] of the lists of requirements that hold.

        Args:
            conditions: From `conditions`.
            codes: [N, G].
            active: [N, G], from `active`.
        """
        holds = conditions.table[conditions.starts + codes[:, conditions.columns]] & active[:, conditions.columns]
        met: np.ndarray = (holds | conditions.always).all(axis=2)
        return met

    def _depth(self) -> int:
        """Length of the longest chain of requirements."""
        columns = self._conditions.columns
        depth = np.zeros(len(self.genes) + 1, dtype=np.int64)  # the last entry is for column -1
        for _ in range(len(self.genes) + 1):
            longer = np.append(np.where(columns >= 0, depth[columns] + 1, 0).max(axis=1), 0)
            if (longer == depth).all():
                return int(depth.max())
            depth = longer
        raise UserError(f"the requirements of {[dim.name for dim in self.space.dims]} depend on each other in a cycle")

    def _required(self, name: str, entry: int) -> tuple[Requirement, ...]:
        requires = self.space[name].requires
        return requires[entry] if requires else ()

    def _column(self, dim: ElasticDim, entry: int) -> int:
        if (dim.name, entry) not in self.column:
            raise UserError(
                f"a requirement on {dim.name} must name an entry in 0..{(dim.length or 1) - 1}, not {entry}"
            )
        return self.column[dim.name, entry]

    def _code(self, arch: Arch) -> list[int]:
        code: list[int] = []
        for dim in self.space.dims:
            if dim.name not in arch:
                raise ValueError(f"an architecture of this space must have the entry {dim.name!r}, but it is missing")
            value = arch[dim.name]
            for entry, choice in enumerate([value] if dim.length is None else value):
                rank = self._rank.get((dim.name, entry), {}).get(_key(choice))
                if rank is None:
                    dim.parse(value)  # raises if the value is not in the space
                    allowed = list(self.space.unlocked_values(dim.name))
                    raise ValueError(f"{dim.name}[{entry}] must be one of the unlocked {allowed}, but got {choice!r}")
                code.append(rank)
        if len(code) != len(self.genes):
            self.space.parse(arch)  # raises for the dimension with a wrong number of entries
        return code

    def _arch(self, code: Sequence[int]) -> Arch:
        arch, start = {}, 0
        for dim in self.space.dims:
            ranks = enumerate(code[start : start + (dim.length or 1)])
            picked = [self._choices[dim.name, entry][rank] for entry, rank in ranks]
            entries = [list(choice) if isinstance(choice, list) else choice for choice in picked]
            arch[dim.name] = entries[0] if dim.length is None else entries
            start += dim.length or 1
        return arch


def _key(choice: Any) -> Any:
    return tuple(choice) if isinstance(choice, list) else choice
