"""Branches and early exits that plugins add to a backbone, at every width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from .. import registry
from ..branches.base import Branch
from ..errors import UserError
from ..exits.base import Exits
from ..plugin import PluginError
from ..space import HEIGHT, LEVEL, ElasticDim, Requirement, SubsetDim
from .layers.accelerate import plain_copy
from .layers.narrow import narrow_copy, narrow_template
from .spec import SupernetSpec

if TYPE_CHECKING:
    from ..backbones.base import Backbone

Made = TypeVar("Made")


@dataclass(frozen=True)
class Position:
    """A block position of the supernet at its largest width.

    Args:
        stage: The stage, from 0.
        index: The number within the stage, from 0.
        in_channels: Channels of its input.
        out_channels: Channels of its output.
        stride: Its stride.
        act_func: Its activation, by upstream's name ("relu", "h_swish").
    """

    stage: int
    index: int
    in_channels: int
    out_channels: int
    stride: int
    act_func: str

    def channels(self, widths: Sequence[int]) -> tuple[int, int]:
        """Input and output channels for these widths of the stem and the stages."""
        return widths[self.stage + (self.index > 0)], widths[self.stage + 1]


class Additions:
    """Builds and checks the branches and early exits of a supernet, and narrows them to smaller widths.

    "Widths" are the channels after the stem and after each stage.

    Args:
        spec: The plugins.
        backbone: The backbone.
        widths: The largest widths.
        n_classes: Size of the logits.
        dropout: Dropout before each classifier.

    Raises:
        UserError: A plugin cannot be loaded, or a branch has the name of the backbone's own block.
    """

    def __init__(self, spec: SupernetSpec, backbone: Backbone, widths: Sequence[int], n_classes: int, dropout: float):
        self.branches: dict[str, Branch] = registry.load_all(registry.BRANCHES, spec.branches)
        self.exits: Exits = registry.load(registry.EXITS, spec.exits)
        self.exits.backbone = backbone
        self.main = backbone.main_block
        if self.main in self.branches:
            raise UserError(f"a branch must not have the name of the backbone's own block, but got {self.main!r}")
        self.widths = tuple(widths)
        self.n_classes = n_classes
        self.dropout = dropout
        self._templates: dict[tuple[Any, ...], nn.Module] = {}

    def dims(self, requires: tuple[tuple[Requirement, ...], ...], exits: Sequence[int]) -> list[ElasticDim]:
        """The elastic dimensions that the branches and exits add.

        Args:
            requires: For each position, the conditions under which it is part of the network.
            exits: The numbers of the early exits.
        """
        dims: list[ElasticDim] = []
        if self.branches:
            members = (self.main, *self.branches)
            sizes = tuple(range(1, len(members) + 1))
            dims.append(SubsetDim(LEVEL, sizes, len(requires), members=members, requires=requires))
        if exits:
            dims.append(ElasticDim(HEIGHT, (*exits, len(self.widths) - 1)))
        return dims

    def build_branches(self, position: Position) -> dict[str, nn.Module]:
        """The branches of a position at the largest widths."""
        return {name: build_branch(plugin, position) for name, plugin in self.branches.items()}

    def build_heads(self) -> nn.ModuleDict:
        """The early exits at the largest widths."""
        return build_heads(self.exits, self.widths[1:], self.n_classes, self.dropout)

    def set_dropout(self, rate: float) -> None:
        """Set the dropout rate of exits that are built later."""
        self.dropout = rate
        self._templates.clear()

    def narrow_branches(self, position: Position, wide: nn.ModuleDict, widths: Sequence[int]) -> dict[str, nn.Module]:
        """The branches of a position for `run_narrow`; none if its widths are the largest."""
        channels = position.channels(widths)
        if channels == position.channels(self.widths):
            return {}
        found = {}
        for name, plugin in self.branches.items():
            key = (name, *channels, position.stride, position.act_func)
            if key not in self._templates:
                build = self._branch_builder(plugin, position, widths)
                self._templates[key] = _narrowed(narrow_template, registry.BRANCHES, plugin, wide[name], build)
            found[name] = self._templates[key]
        return found

    def narrow_head(self, number: int, wide: nn.Module, widths: Sequence[int]) -> nn.Module | None:
        """The early exit after stage `number` (from 1) for `run_narrow`; None if its width is the largest."""
        if widths[number] == self.widths[number]:
            return None
        key = ("exit", number, widths[number])
        if key not in self._templates:
            build = self._head_builder(number, widths)
            self._templates[key] = _narrowed(narrow_template, registry.EXITS, self.exits, wide, build)
        return self._templates[key]

    def static_branch(self, name: str, position: Position, wide: nn.Module, widths: Sequence[int]) -> nn.Module:
        """A branch as plain layers with its own weights."""
        if position.channels(widths) == position.channels(self.widths):
            return plain_copy(wide)
        plugin = self.branches[name]
        build = self._branch_builder(plugin, position, widths)
        return _narrowed(narrow_copy, registry.BRANCHES, plugin, wide, build)

    def static_head(self, number: int, wide: nn.Module, widths: Sequence[int]) -> nn.Module:
        """An early exit as plain layers with its own weights."""
        if widths[number] == self.widths[number]:
            return plain_copy(wide)
        return _narrowed(narrow_copy, registry.EXITS, self.exits, wide, self._head_builder(number, widths))

    @staticmethod
    def _branch_builder(plugin: Branch, position: Position, widths: Sequence[int]) -> Callable[[], nn.Module]:
        return lambda: plugin.build(*position.channels(widths), position.stride, position.act_func)

    def _head_builder(self, number: int, widths: Sequence[int]) -> Callable[[], nn.Module]:
        return lambda: self.exits.heads(widths[1:], self.n_classes, self.dropout)[str(number)]


def build_branch(plugin: Branch, position: Position) -> nn.Module:
    """Build and check a branch at the largest widths.

    Raises:
        PluginError: The branch has no `config`, or does not map the position's input to the shape of the block's
            output.
    """
    in_channels, out_channels, stride = position.in_channels, position.out_channels, position.stride
    with registry.calling(registry.BRANCHES, plugin.name, "build"):
        branch = plugin.build(in_channels, out_channels, stride, position.act_func)
    if not isinstance(branch, nn.Module) or not isinstance(getattr(branch, "config", None), dict):
        raise PluginError(
            f"{registry.title(registry.BRANCHES, plugin.name)} must build a module with a dictionary `config` of its "
            f"build arguments, but got {type(branch).__name__}"
        )
    size = 7  # odd: strided pooling and strided convolution round odd sizes differently
    with registry.calling(registry.BRANCHES, plugin.name, "forward"), torch.no_grad():
        shape = list(branch.eval()(torch.zeros(2, in_channels, size, size)).shape)
    branch.train()
    expected = [2, out_channels, -(-size // stride), -(-size // stride)]
    if shape != expected:
        raise PluginError(
            f"{registry.title(registry.BRANCHES, plugin.name)} must map [2, {in_channels}, {size}, {size}] at stride "
            f"{stride} to {expected}, the shape of the block's output, but got {shape}"
        )
    return branch


def build_heads(plugin: Exits, stage_widths: Sequence[int], n_classes: int, dropout: float) -> nn.ModuleDict:
    """Build and check the early exits at the largest widths.

    Raises:
        PluginError: The exits are not a ModuleDict with ascending numbers of stages before the last one.
    """
    with registry.calling(registry.EXITS, plugin.name, "heads"):
        heads = plugin.heads(stage_widths, n_classes, dropout)
    numbers = list(heads) if isinstance(heads, nn.ModuleDict) else None
    last = len(stage_widths) - 1
    if numbers is None or numbers != sorted(set(numbers) & {str(i) for i in range(1, last + 1)}):
        raise PluginError(
            f"{registry.title(registry.EXITS, plugin.name)} must give a ModuleDict of ascending stage numbers among "
            f"1..{last}, but got {type(heads).__name__ if numbers is None else numbers}"
        )
    for number, head in heads.items():
        if not isinstance(getattr(head, "config", None), dict):
            raise PluginError(
                f"{registry.title(registry.EXITS, plugin.name)}: exit {number} must have a dictionary `config`, from "
                f"which head_from_config rebuilds it, but got {type(head).__name__} without one"
            )
    return heads


def _narrowed(
    make: Callable[[nn.Module, Callable[[], nn.Module]], Made],
    namespace: str,
    plugin: Branch | Exits,
    wide: nn.Module,
    build: Callable[[], nn.Module],
) -> Made:
    """`narrow_template` or `narrow_copy` of a plugin's module.

    Raises:
        PluginError: The plugin's modules cannot share weights between widths.
    """
    try:
        return make(wide, build)
    except ValueError as error:
        raise PluginError(
            f"{registry.title(namespace, plugin.name)} cannot be used with a backbone whose stages have elastic "
            f"widths: {error}"
        ) from error
