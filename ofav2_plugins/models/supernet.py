"""The supernet: a backbone's network plus the plugins of a spec. One class for every variant and backbone."""

from __future__ import annotations

import copy
import inspect
import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .. import registry
from ..errors import UserError
from ..plugin import construct, setting_parameters
from ..space import HEIGHT, LEVEL, Arch, SearchSpace
from ..upstream import extended, init_models, new_layers
from ..utils.validation import is_integer, is_number
from .additions import Additions, Position
from .keys import upstream_key
from .layers.accelerate import use_fast_layers
from .layers.depthwise import fast_on
from .layers.dropout import set_dropout
from .layers.narrow import run_narrow
from .layers.parallel import ParallelBlock, make_parallel, without_branches
from .layers.static import static_layer, static_layers
from .spec import SupernetSpec, resolve_spec
from .stages import stage_outputs
from .subnet import StaticBlock, Subnet, set_batch_norm

if TYPE_CHECKING:
    from ..backbones.base import Backbone, Entry, Part

_CONSTRAINTS = {"depth": "d", "expand_ratio": "e", "kernel_size": "ks"}


class Supernet(nn.Module):
    """A weight-sharing network: a backbone with branches, skips and exits. Created by `build_supernet`.

    This is a mixin for the class of the backbone's network. The state dict keeps all keys and shapes of that network;
    plugins add keys under `blocks.<i>.branches.*` and `exits.*`. Batches are [N, 3, R, R], logits [N, n_classes].

    Args:
        spec: The plugins.
        backbone: The backbone that the spec names, with its settings.
        n_classes: Size of the logits.
        width_mult: Multiplier of all channels.
        dropout_rate: Dropout before each classifier.
        bn_param: Momentum and eps of every batch norm; None for the backbone's own.

    Raises:
        UserError: A wrong argument, an unknown plugin, or a plugin that breaks its contract.
    """

    def __init__(
        self,
        spec: SupernetSpec,
        backbone: Backbone,
        n_classes: int = 1000,
        width_mult: float = 1.0,
        dropout_rate: float = 0.1,
        bn_param: tuple[float, float] | None = None,
    ):
        bn_param = backbone.bn_param if bn_param is None else bn_param
        _check_arguments(n_classes, width_mult, dropout_rate, bn_param)
        super().__init__(**backbone.arguments(n_classes, width_mult, dropout_rate))
        self.spec = replace(spec, backbone=backbone.config())
        self.backbone = backbone
        self.n_classes = n_classes
        self.skip = registry.load(registry.SKIPS, spec.skip)
        backbone.prepare(self)
        own_dims = backbone.dims()
        backbone.activate(self, SearchSpace(own_dims).max_arch())
        self._widths = backbone.widths(self)
        self._additions = Additions(spec, backbone, self._widths, n_classes, dropout_rate)
        self.positions = self._list_positions()
        for position, block in zip(self.positions, self._blocks(), strict=True):
            make_parallel(block, backbone.main_block, self._additions.build_branches(position))
        self.exits = self._additions.build_heads()
        requires = tuple((backbone.requirement(position.stage, position.index),) for position in self.positions)
        added_dims = self._additions.dims(requires, [*map(int, self.exits)])
        self.space = self._sampled_space = SearchSpace((*own_dims, *added_dims))
        set_batch_norm(self, *bn_param)
        init_models(self)
        use_fast_layers(self)
        self.set_max_net()
        self._check_narrow_parts()

    _arch: Arch

    def _list_positions(self) -> list[Position]:
        found = []
        for stage, blocks in enumerate(self.backbone.stages(self)):
            for index, block in enumerate(blocks):
                before, after = self._widths[stage + (index > 0)], self._widths[stage + 1]
                stride, act_func = self.backbone.stride(block), self.backbone.act_func(block)
                found.append(Position(stage, index, before, after, stride, act_func))
        return found

    def _check_narrow_parts(self) -> None:
        """Raise PluginError if a plugin's modules at the smallest widths cannot share the weights of the largest."""
        self.set_active_subnet(**self.space.min_arch())
        for number, head in self.exits.items():
            self._additions.narrow_head(int(number), head, self._widths)
        self.set_max_net()

    @property
    def n_stages(self) -> int:
        """Number of stages; the exit after the last one is the backbone's own tail."""
        return len(self._widths) - 1

    def _blocks(self) -> list[ParallelBlock]:
        """The blocks in the order of `positions`."""
        return [block for blocks in self.backbone.stages(self) for block in blocks]

    @property
    def arch(self) -> Arch:
        """A copy of the active architecture."""
        return copy.deepcopy(self._arch)

    # -- choosing the active subnet ----------------------------------------------------------------------

    def set_active_subnet(self, **settings: Any) -> None:
        """Activate an architecture; scalars broadcast, and omitted or None dimensions stay unchanged.

        Raises:
            ValueError: An entry is wrong; the message names it and its allowed values. Nothing is changed.
        """
        self._arch = arch = self.space.parse(settings, current=self._arch)
        self.backbone.activate(self, arch)
        self._widths = self.backbone.widths(self)
        levels = arch.get(LEVEL, [(self.backbone.main_block,)] * len(self.positions))
        for position, block, level in zip(self.positions, self._blocks(), levels, strict=True):
            block.active = tuple(level)
            block.narrow = self._additions.narrow_branches(position, block.branches, self._widths)

    def set_max_net(self) -> None:
        """Activate the maximal network: every dimension at its largest, every branch, the last exit."""
        self._arch = self.space.max_arch()
        self.set_active_subnet()

    def sample_active_subnet(self, rng: random.Random | None = None) -> Arch:
        """Sample an architecture uniformly, activate it and return it.

        Args:
            rng: The generator to draw from; None uses Python's global one, as upstream does.

        Raises:
            ValueError: `rng` is not a generator (a seed, for example).
        """
        if rng is not None and not isinstance(rng, random.Random):
            raise ValueError(f"rng must be a random.Random or None, but got {rng!r}")
        arch = self._sampled_space.sample(random if rng is None else rng)  # type: ignore[arg-type]
        self.set_active_subnet(**arch)
        return arch

    def set_constraint(self, include_list: Sequence[float], constraint_type: str = "depth") -> None:
        """Upstream's way to restrict sampling: "depth", "expand_ratio" or "kernel_size" to these values."""
        known = [kind for kind, dim in _CONSTRAINTS.items() if dim in self.space]
        if constraint_type not in known:
            raise ValueError(f"constraint_type must be one of {known}, but got {constraint_type!r}")
        self._sampled_space = self._sampled_space.restrict({_CONSTRAINTS[constraint_type]: include_list})

    def clear_constraint(self) -> None:
        """Sample from the whole space again."""
        self._sampled_space = self.space

    # -- computing ---------------------------------------------------------------------------------------

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, 3, R, R] to the logits [N, n_classes] of the active exit."""
        return self._run_exits(x, [self._height])[-1]

    def forward_exits(self, x: Tensor) -> list[Tensor]:
        """Images [N, 3, R, R] to the logits [N, n_classes] of every exit up to the active one."""
        return self._run_exits(x, self._exit_numbers())

    def _run_exits(self, x: Tensor, numbers: Sequence[int]) -> list[Tensor]:
        """The logits of these exits; the last one is the active exit."""
        if fast_on(x):
            x = x.contiguous(memory_format=torch.channels_last)  # all layers keep this layout
        self.skip.training = self.training
        for layer in self.backbone.stem(self).values():
            x = layer(x)
        outputs = stage_outputs(self.skip, self._active_stages(), x)
        return [self._exit(number, y) for number, y in outputs if number in numbers]

    @property
    def _height(self) -> int:
        height: int = self._arch.get(HEIGHT, self.n_stages)
        return height

    def _active_stages(self) -> list[list[nn.Module]]:
        """The active blocks of each stage up to the active exit."""
        stages = zip(self.backbone.stages(self), self.backbone.depths(self._arch), strict=True)
        return [blocks[:depth] for blocks, depth in stages][: self._height]

    def _exit_numbers(self) -> list[int]:
        """The exits up to the active one."""
        return [n for n in (*map(int, self.exits), self.n_stages) if n <= self._height]

    def _exit(self, number: int, x: Tensor) -> Tensor:
        if number < self.n_stages:
            head = self.exits[str(number)]
            narrow = self._additions.narrow_head(number, head, self._widths)
            return head(x) if narrow is None else run_narrow(head, narrow, x)
        for layer in self.backbone.tail(self).values():
            x = layer(x)
        return x

    # -- static networks ---------------------------------------------------------------------------------

    def get_active_subnet(self, preserve_weight: bool = True) -> Subnet:
        """The active architecture as a static network with one exit and, by default, its weights."""
        return self._static(preserve_weight, [self._height], multi_exit=False)

    def get_multi_exit_subnet(self, preserve_weight: bool = True) -> Subnet:
        """Like `get_active_subnet`, but with all exits up to the active one; its forward returns a list of logits."""
        return self._static(preserve_weight, self._exit_numbers(), multi_exit=True)

    def get_active_net_config(self) -> dict[str, Any]:
        """The `config` of `get_active_subnet()`."""
        return self.get_active_subnet(preserve_weight=False).config

    def _static(self, preserve_weight: bool, numbers: Sequence[int], multi_exit: bool) -> Subnet:
        positions = iter(range(len(self.positions)))
        stages = []
        for blocks, depth in zip(self.backbone.stages(self), self.backbone.depths(self._arch), strict=True):
            own = [next(positions) for _ in blocks][:depth]
            stages.append([self.static_part(("block", i), preserve_weight) for i in own])
        return Subnet(
            self.static_part(("stem", 0), preserve_weight),
            stages[: self._height],
            {number: self.static_part(("head", number), preserve_weight) for number in numbers},
            {number: self.spec.exits if number < self.n_stages else "final" for number in numbers},
            spec=self.spec,
            multi_exit=multi_exit,
        ).train(self.training)

    def static_part(self, part: Part, preserve_weight: bool = True) -> nn.Module:
        """The active form of one part as plain layers, as in a static network.

        Args:
            part: ("stem", 0), ("block", position) or ("head", exit number); the block's depth does not matter.
            preserve_weight: Whether to copy the supernet's weights; otherwise new weights are initialized.
        """
        kind, number = part
        build = {"stem": self._static_stem, "block": self._static_block, "head": self._static_head}[kind]
        with new_layers(next(self.parameters()).dtype):
            made = build(number, preserve_weight)
        norm = next(module for module in self.modules() if isinstance(module, nn.BatchNorm2d))
        set_batch_norm(made, norm.momentum, norm.eps)
        return made.train(self.training)

    def _static_stem(self, _: int, preserve_weight: bool) -> nn.Module:
        return static_layers(self.backbone.stem(self), 3, preserve_weight)

    def _static_block(self, number: int, preserve_weight: bool) -> StaticBlock:
        position, block = self.positions[number], self._blocks()[number]
        parts: dict[str, nn.Module] = {}
        if block.main in block.active:
            parts[block.main] = static_layer(
                without_branches(block), position.channels(self._widths)[0], preserve_weight
            )
        for name, branch in block.branches.items():
            if name in block.active:
                parts[name] = self._additions.static_branch(name, position, branch, self._widths)
        return StaticBlock(parts)

    def _static_head(self, number: int, preserve_weight: bool) -> nn.Module:
        if number == self.n_stages:
            return static_layers(self.backbone.tail(self), self._widths[-1], preserve_weight)
        return self._additions.static_head(number, self.exits[str(number)], self._widths)

    def part_dependencies(self) -> dict[Part, tuple[Entry, ...]]:
        """Part of the network -> the entries of an architecture on which its static form depends.

        See `backbones.base.Part`. A part depends on few entries, so its cost can be tabulated.
        """
        parts: list[Part] = [("stem", 0)]
        parts += [(kind, i) for kind in ("block", "branch") for i in range(len(self.positions))]
        parts += [("head", number) for number in (*map(int, self.exits), self.n_stages)]
        parts += [("depth", stage) for stage in range(self.n_stages)]
        return {part: self.backbone.dependencies(part) for part in parts}

    # -- weights -----------------------------------------------------------------------------------------

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Like torch's, but also accepts upstream state dicts, with old keys too (for other variants: strict=False)."""
        own = set(self.state_dict())
        renamed = {upstream_key(key, own): value for key, value in state_dict.items()}
        return nn.Module.load_state_dict(self, renamed, strict=strict, assign=assign)

    def zero_last_gamma(self) -> None:
        """Scale the last batch norm of every block with an identity shortcut by 0, so that it starts as an identity.

        This speeds up the start of training of deep networks. Upstream's method of this name does not change elastic
        blocks.
        """
        for norm in self.backbone.residual_norms(self):
            nn.init.zeros_(norm.weight)

    def re_organize_middle_weights(self, expand_ratio_stage: int = 0) -> None:
        """Upstream's sorting of channels by importance before a width step; see `Backbone.reorder_channels`."""
        self.backbone.reorder_channels(self, expand_ratio_stage)

    def set_dropout(self, rate: float) -> None:
        """Set the dropout rate before every classifier; a head without upstream's classifier keeps its own.

        Raises:
            UserError: `rate` is not in [0, 1).
        """
        _check_dropout(rate)
        self._additions.set_dropout(rate)
        heads = [self.backbone.tail(self).values(), *(head.children() for head in self.exits.values())]
        set_dropout(itertools.chain(*heads), rate)


def build_supernet(
    supernet: str | Mapping[str, Any] | SupernetSpec,
    n_classes: int = 1000,
    *,
    backbone: Any = None,
    width_mult: float = 1.0,
    dropout_rate: float = 0.1,
    bn_param: tuple[float, float] | None = None,
    **settings: Any,
) -> Supernet:
    """Build a supernet from a name (`spec.VARIANTS`), a composition or a spec.

    Args:
        supernet: Any argument of `spec.resolve_spec`.
        n_classes: Size of the logits.
        backbone: A plugin of `ofav2.backbones` instead of the one in `supernet`.
        width_mult: Multiplier of all channels.
        dropout_rate: Dropout before each classifier.
        bn_param: Momentum and eps of every batch norm; None for the backbone's own.
        settings: Settings of the backbone, such as `ks_list`, `expand_ratio_list` and `depth_list` of MobileNetV3.

    Raises:
        UserError: An unknown name (lists the known ones), plugin or option, or an infeasible composition.
    """
    spec = resolve_spec(supernet)
    chosen = _load_backbone(spec.backbone if backbone is None else backbone, settings)
    net: Supernet = extended(Supernet, chosen.network)(spec, chosen, n_classes, width_mult, dropout_rate, bn_param)
    return net


def _load_backbone(reference: Any, settings: Mapping[str, Any]) -> Backbone:
    backbone: Backbone = registry.load(registry.BACKBONES, reference)
    own = setting_parameters(type(backbone))
    for name in settings:
        if name not in own:
            options = (*inspect.signature(build_supernet).parameters, *own)
            known = ", ".join(option for option in options if option not in ("supernet", "settings"))
            raise UserError(f"options of a supernet with backbone {backbone.name!r} are {known}, but got {name!r}")
    if not settings:
        return backbone
    title = f"plugin {backbone.name!r} of {registry.BACKBONES}"
    changed: Backbone = construct(type(backbone), {**backbone.settings, **settings}, title)
    changed.name = backbone.name
    return changed


def _check_arguments(n_classes: Any, width_mult: Any, dropout_rate: Any, bn_param: Any) -> None:
    if not (is_integer(n_classes) and n_classes >= 1):
        raise UserError(f"n_classes must be an integer of at least 1, but got {n_classes!r}")
    if not (is_number(width_mult) and width_mult > 0):
        raise UserError(f"width_mult must be a number above 0, but got {width_mult!r}")
    _check_dropout(dropout_rate)
    if not (isinstance(bn_param, Sequence) and len(bn_param) == 2 and all(map(is_number, bn_param))):
        raise UserError(f"bn_param must be two numbers, momentum and eps, but got {bn_param!r}")


def _check_dropout(rate: Any) -> None:
    if not (is_number(rate) and 0 <= rate < 1):
        raise UserError(f"dropout_rate must be a number in [0, 1), but got {rate!r}")
