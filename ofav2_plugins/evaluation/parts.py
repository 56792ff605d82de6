"""The distinct parts that the static networks of a supernet consist of: each is built once and counted or timed once.

A part is one possible entry in the list of a network's modules: the stem, an MB block or a branch at a position, an
exit. A few genes decide its shape, so all networks of a space consist of a few hundred distinct parts.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from ..models.supernet import Supernet
from ..space import HEIGHT, LEVEL, Arch, Requirement, SearchSpace
from .encoding import Encoding

Gene = tuple[str, int]


@dataclass(frozen=True)
class PartSpec:
    """A part of the static network.

    Args:
        path: The module in `get_active_subnet()`; "{height}" in it stands for a gene's choice.
        genes: The entries that decide its shape.
        requires: Conditions under which it is part of the network.
        by_first: If the first gene chooses between modules: its choice -> the genes that matter for that module.
    """

    path: str
    genes: tuple[Gene, ...] = ()
    requires: tuple[Requirement, ...] = ()
    by_first: Mapping[Any, tuple[Gene, ...]] = field(default_factory=dict)

    def variants(self, choices: Sequence[Sequence[Any]]) -> list[list[tuple[int, tuple[Any, ...]]]]:
        """The variants (number, picked choices) of this part, in groups that are built in the same way."""
        groups: dict[Any, list[tuple[int, tuple[Any, ...]]]] = {}
        for number, picked in enumerate(itertools.product(*choices)):
            key: Any = number
            if self.by_first:
                matters = self.by_first[picked[0]]
                key = (picked[0], *(c for gene, c in zip(self.genes, picked, strict=True) if gene in matters))
            groups.setdefault(key, []).append((number, picked))
        return list(groups.values())

    def module_path(self, choices: Sequence[Any]) -> str:
        """The path for these choices of the genes."""
        return self.path.format(**{dim: choice for (dim, _), choice in zip(self.genes, choices, strict=True)})


@dataclass(frozen=True)
class Layout:
    """The order of the parts of a supernet's static networks.

    Args:
        stem: Parts that run one after the other before the first stage.
        stages: For each stage and block position the parts whose outputs are summed, in the order they run.
        exits: The part after the last active stage.
    """

    stem: tuple[PartSpec, ...]
    stages: tuple[tuple[tuple[PartSpec, ...], ...], ...]
    exit: PartSpec

    @property
    def parts(self) -> list[PartSpec]:
        """All parts in the order in which they run."""
        blocks = [part for stage in self.stages for position in stage for part in position]
        return [*self.stem, *blocks, self.exit]


def layout(net: Supernet) -> Layout:
    """The parts of a supernet, from its space and its spec."""
    genes = net.part_dependencies()
    main = net.backbone.main_block
    stages: list[list[tuple[PartSpec, ...]]] = [[] for _ in range(net.n_stages)]
    for i, position in enumerate(net.positions):
        path = f"stages.{position.stage}.{position.index}.parts"
        inside = net.backbone.requirement(position.stage, position.index)
        branches = [
            PartSpec(f"{path}.{name}", genes["branch", i], (inside, Requirement(LEVEL, i, name)))
            for name in net.spec.branch_names
        ]
        parts = (PartSpec(f"{path}.{main}", genes["block", i], (inside, Requirement(LEVEL, i, main))), *branches)
        stages[position.stage].append(parts)
    heads = dict.fromkeys(gene for part, found in genes.items() if part[0] == "head" for gene in found)
    by_height = {part[1]: found for part, found in genes.items() if part[0] == "head"}
    last = (
        PartSpec("exits.{height}", ((HEIGHT, 0), *heads), by_first=by_height)
        if HEIGHT in net.space
        else PartSpec(f"exits.{net.n_stages}", tuple(heads))
    )
    return Layout((PartSpec("stem", genes["stem", 0]),), tuple(map(tuple, stages)), last)


@dataclass(frozen=True)
class Part:
    """One variant of a part: a static module in evaluation mode, and the shape [1, C, H, W] of its input.

    Equal parts of different positions have equal keys.
    """

    key: str
    module: nn.Module
    shape: tuple[int, ...]


class PartTable:
    """All variants of all parts of a supernet at one resolution.

    Args:
        net: The supernet; its active architecture is restored afterwards.
        encoding: The encoding of the architectures.
        resolution: Height and width of the images in pixels.
    """

    def __init__(self, net: Supernet, encoding: Encoding, resolution: int):
        self.layout = layout(net)
        self.specs = self.layout.parts
        self.genes = [list(spec.genes) for spec in self.specs]
        self.choices = [[encoding.choices(*gene) for gene in genes] for genes in self.genes]
        self.variants: list[list[Part]] = []
        """For each part, its variants in the order of `itertools.product` over the choices of its genes."""
        found = dict(self._build(net, resolution))
        for place, choices in enumerate(self.choices):
            self.variants.append([found[place, variant] for variant in range(len([*itertools.product(*choices)]))])

    def distinct(self) -> dict[str, Part]:
        """The distinct parts, by key."""
        return {part.key: part for variants in self.variants for part in variants}

    def _build(self, net: Supernet, resolution: int) -> Iterator[tuple[tuple[int, int], Part]]:
        space, known = net.space, dict[str, Part]()
        pending = [
            (place, [number for number, _ in alike], self._settings(space, place, alike[-1][1]))
            for place, choices in enumerate(self.choices)
            for alike in self.specs[place].variants(choices)
        ]
        with _same_arch(net):
            while pending:
                taken, pending, chosen = _compatible(pending)
                modules = _modules(net, _arch(space, chosen), resolution)
                for place, alike, settings in taken:
                    picked = [settings[gene] for gene in self.genes[place]]
                    path = self.specs[place].module_path(picked)
                    module, shape = modules[path]
                    part = _part(path, module, shape)
                    for variant in alike:
                        yield (place, variant), known.setdefault(part.key, part)

    def _settings(self, space: SearchSpace, place: int, picked: Sequence[Any]) -> dict[Gene, Any]:
        """The entries that a variant of a part needs: its own genes, and the largest values of its requirements."""
        settings: dict[Gene, Any] = {}
        required = [*self.specs[place].requires]
        for gene in self.genes[place]:
            required += _requirements(space, gene)
        while required:
            requirement = required.pop()
            gene = (requirement.dim, requirement.entry)
            if requirement.dim in space and gene not in settings:
                settings[gene] = space[requirement.dim].entry_choices(requirement.entry)[-1]
                required += _requirements(space, gene)
        return {**settings, **dict(zip(self.genes[place], picked, strict=True))}


class PartIndex:
    """Looks up the parts of architectures, and their variants.

    Args:
        encoding: The encoding of the architectures.
        specs: P parts.
    """

    def __init__(self, encoding: Encoding, specs: Sequence[PartSpec]):
        self._encoding = encoding
        self._conditions = encoding.conditions([spec.requires for spec in specs])
        most = max([1, *(len(spec.genes) for spec in specs)])
        self._columns = np.zeros((len(specs), most), dtype=np.int64)
        self._strides = np.zeros((len(specs), most), dtype=np.int64)
        sizes = []
        for place, spec in enumerate(specs):
            stride = 1
            for number, gene in reversed([*enumerate(spec.genes)]):
                self._columns[place, number] = encoding.column[gene]
                self._strides[place, number] = stride
                stride *= len(encoding.choices(*gene))
            sizes.append(stride)
        self._starts = np.cumsum([0, *sizes[:-1]])

    def __call__(self, codes: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whether each part is present, and its variant's place in the list of all variants: both [N, P]."""
        present = self._encoding.hold(self._conditions, codes, active)
        return present, self._starts + (codes[:, self._columns] * self._strides).sum(axis=2)


def _requirements(space: SearchSpace, gene: Gene) -> tuple[Requirement, ...]:
    requires = space[gene[0]].requires
    return requires[gene[1]] if requires else ()


def _compatible(pending: list[Any]) -> tuple[list[Any], list[Any], dict[Gene, Any]]:
    """The variants that one architecture can have at the same time, the others, and that architecture's entries."""
    chosen: dict[Gene, Any] = {}
    taken, rest = [], []
    for item in pending:
        if all(chosen.get(gene, choice) == choice for gene, choice in item[2].items()):
            chosen.update(item[2])
            taken.append(item)
        else:
            rest.append(item)
    return taken, rest, chosen


def _arch(space: SearchSpace, chosen: dict[Gene, Any]) -> Arch:
    arch = space.max_arch()
    for (name, entry), choice in chosen.items():
        if space[name].length is None:
            arch[name] = choice
        else:
            arch[name][entry] = choice
    return arch


@contextmanager
def _same_arch(net: Supernet) -> Iterator[None]:
    before = net.arch
    try:
        yield
    finally:
        net.set_active_subnet(**before)


@torch.no_grad()
def _modules(net: Supernet, arch: Arch, resolution: int) -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Every module of an architecture's static network with the shape of its input, by path."""
    net.set_active_subnet(**arch)
    static = net.get_active_subnet(preserve_weight=False).eval()
    found: dict[str, tuple[nn.Module, tuple[int, ...]]] = {}

    def note(path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            if args and isinstance(args[0], torch.Tensor):
                found[path] = module, tuple(args[0].shape)

        return hook

    hooks = [module.register_forward_pre_hook(note(path)) for path, module in static.named_modules()]
    weight = next(static.parameters())
    static(torch.zeros(1, 3, resolution, resolution, dtype=weight.dtype, device=weight.device))
    for hook in hooks:
        hook.remove()
    return found


def _part(path: str, module: nn.Module, shape: tuple[int, ...]) -> Part:
    """A part; its key has a readable name and a hash of all its layers."""
    name = path.rpartition(".")[2]
    label = type(module).__name__ if name.isdigit() else name
    described = f"{json.dumps(getattr(module, 'config', None), sort_keys=True)} {module}"
    digest = hashlib.blake2b(described.encode(), digest_size=8).hexdigest()
    return Part(f"{label} {'x'.join(map(str, shape[1:]))} {digest}", module.float().cpu(), shape)
