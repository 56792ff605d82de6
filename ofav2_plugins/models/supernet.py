"""The supernet: upstream's OFAMobileNetV3 plus the plugins that a spec names. One class for every variant."""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import registry
from ..branches.base import Branch
from ..errors import UserError
from ..exits.base import ExitHead, head_forward
from ..space import MBCONV, Arch, ElasticDim, Requirement, SearchSpace, SubsetDim
from ..upstream import IdentityLayer, LinearLayer, OFAMobileNetV3, ResidualBlock, init_models, new_layers
from ..utils.validation import is_integer, is_number
from .layers.accelerate import plain_copy, use_fast_layers
from .layers.depthwise import FastSeparableConv2d, fast_on
from .layers.parallel import ParallelBlock
from .spec import SupernetSpec, resolve_spec
from .subnet import StaticBlock, Subnet, set_batch_norm

_CONSTRAINTS = {"depth": "d", "expand_ratio": "e", "kernel_size": "ks"}


class Supernet(OFAMobileNetV3):
    """A weight-sharing network: upstream's, with branches, skips and exits by plugin name.

    Every key of an upstream state dict exists here with its shape; what the plugins add lives under
    `blocks.<i>.branches.*` and `exits.*`. Batches are [N, 3, R, R], logits [N, n_classes].

    Args:
        spec: The plugins.
        n_classes: Size of the logits.
        width_mult: Width multiplier of all channels (1.0 and 1.2 in the paper).
        ks_list: Kernel sizes, odd.
        expand_ratio_list: Expand ratios of the MB blocks.
        depth_list: Numbers of blocks a stage may have.
        dropout_rate: Dropout before each classifier.
        bn_param: Momentum and eps of every batch norm.

    Raises:
        UserError: A wrong argument, an unknown plugin, or a plugin that does not keep its contract.
    """

    def __init__(
        self,
        spec: SupernetSpec,
        n_classes: int = 1000,
        width_mult: float = 1.0,
        ks_list: Sequence[int] = (3, 5, 7),
        expand_ratio_list: Sequence[int] = (3, 4, 6),
        depth_list: Sequence[int] = (2, 3, 4),
        dropout_rate: float = 0.1,
        bn_param: tuple[float, float] = (0.1, 1e-5),
    ):
        _check_arguments(n_classes, width_mult, dropout_rate, bn_param)
        kernels = _integers("ks_list", ks_list, odd=True)
        expands = _integers("expand_ratio_list", expand_ratio_list)
        depths = _integers("depth_list", depth_list)
        positions = [Requirement("d", i // depths[-1], i % depths[-1] + 1) for i in range(5 * depths[-1])]
        in_block = tuple((position, Requirement("level", i, MBCONV)) for i, position in enumerate(positions))
        in_network = tuple((Requirement("height", 0, stage + 1),) for stage in range(5))
        dims = [
            ElasticDim("ks", tuple(kernels), len(positions), requires=in_block),
            ElasticDim("e", tuple(expands), len(positions), requires=in_block),
            ElasticDim("d", tuple(depths), 5, requires=in_network),
        ]
        super().__init__(
            n_classes=n_classes,
            bn_param=bn_param,
            dropout_rate=dropout_rate,
            width_mult=width_mult,
            ks_list=kernels,
            expand_ratio_list=expands,
            depth_list=depths,
        )
        self.spec = spec
        self.n_classes = n_classes
        self.skip = registry.load(registry.SKIPS, spec.skip)
        self._make_blocks(spec.branches)
        self._add_exits(spec.exits, n_classes, dropout_rate)
        if spec.branches:
            members = (MBCONV, *spec.branch_names)
            sizes, requires = tuple(range(1, len(members) + 1)), tuple((position,) for position in positions)
            dims.append(SubsetDim("level", sizes, len(positions), members=members, requires=requires))
        if self.exits:
            dims.append(ElasticDim("height", (*map(int, self.exits), self.n_stages)))
        self.space = SearchSpace(tuple(dims))
        self._sampled_space = self.space
        set_batch_norm(self, *bn_param)
        init_models(self)
        use_fast_layers(self)
        self.set_max_net()

    _arch: Arch

    def _make_blocks(self, branches: Sequence[Any]) -> None:
        plugins = registry.load_all(registry.BRANCHES, branches)
        for i, block in enumerate(self.blocks[1:], start=1):
            conv = block.conv
            plain = conv.depth_conv.conv
            conv.depth_conv.conv = FastSeparableConv2d(plain.max_in_channels, plain.kernel_size_list, plain.stride)
            args = (conv.in_channels, conv.out_channels, conv.stride, conv.act_func)
            self.blocks[i] = ParallelBlock(block, {name: _branch(plugin, *args) for name, plugin in plugins.items()})

    def _add_exits(self, exits: Any, n_classes: int, dropout: float) -> None:
        plugin = registry.load(registry.EXITS, exits)
        name = plugin.name
        widths = [self.blocks[group[-1]].conv.out_channels for group in self.block_group_info]
        with registry.calling(registry.EXITS, name, "heads"):
            heads = plugin.heads(widths, n_classes, dropout)
        numbers = list(heads) if isinstance(heads, nn.ModuleDict) else None
        if numbers is None or numbers != sorted(set(numbers) & {str(i) for i in range(1, self.n_stages)}):
            raise registry.PluginError(
                f"plugin {name!r} of {registry.EXITS} must give a ModuleDict of ascending stage numbers among "
                f"1..{self.n_stages - 1}, but got {type(heads).__name__ if numbers is None else numbers}"
            )
        self.exits = heads

    @property
    def n_stages(self) -> int:
        """Number of body stages; the exit after the last one is upstream's tail."""
        return len(self.block_group_info)

    @property
    def arch(self) -> Arch:
        """A copy of the active architecture."""
        return copy.deepcopy(self._arch)

    # -- choosing the active subnet ----------------------------------------------------------------------

    def set_active_subnet(self, ks=None, e=None, d=None, **settings: Any) -> None:
        """Make an architecture active; scalars broadcast, a dimension left out stays as it is.

        Raises:
            ValueError: Names the wrong entry, what it may be, and what was given; nothing has changed then.
        """
        arch = self.space.parse({"ks": ks, "e": e, "d": d, **settings}, current=self._arch)
        levels = arch.get("level", [(MBCONV,)] * (len(self.blocks) - 1))
        for block, kernel, expand, level in zip(self.blocks[1:], arch["ks"], arch["e"], levels, strict=True):
            block.conv.active_kernel_size = kernel
            block.conv.active_expand_ratio = expand
            block.active = tuple(level)
        self.runtime_depth = list(arch["d"])
        self.runtime_height = arch.get("height", self.n_stages)
        self._arch = arch

    def set_max_net(self) -> None:
        """Make the maximal network active: every dimension at its largest, every branch, the last exit."""
        self._arch = self.space.max_arch()
        self.set_active_subnet()

    def sample_active_subnet(self, rng: random.Random | None = None) -> Arch:
        """Draw an architecture uniformly, make it active and return it.

        Args:
            rng: Where it is drawn from; without one, from Python's global generator, as upstream does.

        Raises:
            ValueError: `rng` is something else, such as a seed.
        """
        if rng is not None and not isinstance(rng, random.Random):
            raise ValueError(f"rng must be a random.Random or None, but got {rng!r}")
        arch = self._sampled_space.sample(random if rng is None else rng)  # type: ignore[arg-type]
        self.set_active_subnet(**arch)
        return arch

    def set_constraint(self, include_list: Sequence[int], constraint_type: str = "depth") -> None:
        """Upstream's way to restrict sampling: "depth", "expand_ratio" or "kernel_size" to these values."""
        if constraint_type not in _CONSTRAINTS:
            raise ValueError(f"constraint_type must be one of {list(_CONSTRAINTS)}, but got {constraint_type!r}")
        self._sampled_space = self._sampled_space.restrict({_CONSTRAINTS[constraint_type]: include_list})

    def clear_constraint(self) -> None:
        """Sample from the whole space again."""
        self._sampled_space = self.space

    # -- computing ---------------------------------------------------------------------------------------

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, 3, R, R] to the logits [N, n_classes] of the active exit."""
        x = self._stem(x)
        for stage in range(self.runtime_height):
            x = self.skip.run(self._active_blocks(stage), x)
        return self._exit(self.runtime_height, x)

    def forward_exits(self, x: Tensor) -> list[Tensor]:
        """Images [N, 3, R, R] to the logits [N, n_classes] of every exit up to the active one."""
        x = self._stem(x)
        logits = []
        for stage in range(self.runtime_height):
            x = self.skip.run(self._active_blocks(stage), x)
            if stage + 1 in self._exit_numbers():
                logits.append(self._exit(stage + 1, x))
        return logits

    def _stem(self, x: Tensor) -> Tensor:
        if fast_on(x):
            x = x.contiguous(memory_format=torch.channels_last)  # all that follows keeps this layout
        return self.blocks[0](self.first_conv(x))

    def _active_blocks(self, stage: int) -> list[ParallelBlock]:
        return [self.blocks[i] for i in self.block_group_info[stage][: self.runtime_depth[stage]]]

    def _exit_numbers(self) -> list[int]:
        """The exits up to the active one."""
        return [n for n in (*map(int, self.exits), self.n_stages) if n <= self.runtime_height]

    def _exit(self, number: int, x: Tensor) -> Tensor:
        return head_forward(self, x) if number == self.n_stages else self.exits[str(number)](x)

    # -- static networks ---------------------------------------------------------------------------------

    def get_active_subnet(self, preserve_weight: bool = True) -> Subnet:
        """The active architecture as a static network with one exit and (unless told otherwise) its weights."""
        return self._static(preserve_weight, multi_exit=False)

    def get_multi_exit_subnet(self, preserve_weight: bool = True) -> Subnet:
        """As `get_active_subnet`, with all exits up to the active one; its forward gives the list of logits."""
        return self._static(preserve_weight, multi_exit=True)

    def get_active_net_config(self) -> dict[str, Any]:
        """The `config` of `get_active_subnet()`."""
        return self.get_active_subnet(preserve_weight=False).config

    def _static(self, preserve_weight: bool, multi_exit: bool) -> Subnet:
        with new_layers(self.first_conv.conv.weight.dtype):
            stages = [
                [_static_block(block, preserve_weight) for block in self._active_blocks(stage)]
                for stage in range(self.runtime_height)
            ]
        numbers = self._exit_numbers() if multi_exit else [self.runtime_height]
        net = Subnet(
            plain_copy(self.first_conv),
            plain_copy(self.blocks[0]),
            stages,
            {number: plain_copy(self._head(number)) for number in numbers},
            {number: self.spec.exits if number < self.n_stages else "final" for number in numbers},
            skip=self.spec.skip,
            multi_exit=multi_exit,
        )
        set_batch_norm(net, self.first_conv.bn.momentum, self.first_conv.bn.eps)
        return net.train(self.training)

    def _head(self, number: int) -> nn.Module:
        if number < self.n_stages:
            return self.exits[str(number)]
        return ExitHead(self.final_expand_layer, self.feature_mix_layer, self.classifier)

    # -- weights -----------------------------------------------------------------------------------------

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False):
        """As torch's; also takes upstream state dicts, old key names included (into any variant: strict=False)."""
        own = set(self.state_dict())
        renamed = {upstream_key(key, own): value for key, value in state_dict.items()}
        return nn.Module.load_state_dict(self, renamed, strict=strict, assign=assign)

    def zero_last_gamma(self) -> None:
        """Let every block with a shortcut start as that shortcut: its last batch norm is scaled by 0.

        Upstream's method of this name leaves elastic blocks as they are. Deep networks learn faster at first with it.
        """
        super().zero_last_gamma()  # the first block
        for block in self.blocks[1:]:
            if isinstance(block.shortcut, IdentityLayer):
                nn.init.zeros_(block.conv.point_linear.bn.bn.weight)

    def set_dropout(self, rate: float) -> None:
        """Set the dropout rate before every classifier; a head without upstream's classifier keeps its own.

        Raises:
            UserError: `rate` is not in [0, 1).
        """
        _check_dropout(rate)
        for head in (self, *self.exits.values()):
            if isinstance(getattr(head, "classifier", None), LinearLayer):
                _set_dropout(head.classifier, rate)


def build_supernet(supernet: str | Mapping[str, Any] | SupernetSpec, n_classes: int = 1000, **options: Any) -> Supernet:
    """A supernet by name (`variants.VARIANTS`), composition or spec; see `Supernet` for the options.

    Raises:
        UserError: An unknown name (lists the known ones), plugin or option, or an infeasible composition.
    """
    known = [name for name in inspect.signature(Supernet).parameters if name != "spec"]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UserError(f"options of a supernet are {', '.join(known)}, but got {unknown[0]!r}")
    return Supernet(resolve_spec(supernet), n_classes=n_classes, **options)


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


def _set_dropout(layer: LinearLayer, rate: float) -> None:
    """Leave the layer as if built with this rate, its parameters the same objects."""
    layer.dropout_rate = rate
    children = dict(layer.named_children())
    for name in children:
        delattr(layer, name)
    for name, child in children.items():  # upstream's forward runs the children in order
        if name == "linear" and rate > 0:
            layer.dropout = nn.Dropout(rate, inplace=True).train(layer.training)
        if name != "dropout":
            layer.add_module(name, child)


def _integers(name: str, values: Any, odd: bool = False) -> list[int]:
    """The list of an elastic dimension's values, ascending."""
    valid = isinstance(values, Sequence) and all(is_integer(v) and v >= 1 and (v % 2 or not odd) for v in values)
    if not valid or not values or len(set(values)) != len(values):
        kind = "odd integers" if odd else "integers"
        raise UserError(f"{name} must be a list of one or more distinct {kind} of at least 1, but got {values!r}")
    return sorted(map(int, values))


def _branch(plugin: Branch, in_channels: int, out_channels: int, stride: int, act_func: str) -> nn.Module:
    """A branch that maps the position's input to the MB block's output shape and says how to rebuild it."""
    size = 7  # odd: the map that strided pooling and strided convolution round differently
    with registry.calling(registry.BRANCHES, plugin.name, "build"):
        branch = plugin.build(in_channels, out_channels, stride, act_func)
    if not isinstance(branch, nn.Module) or not isinstance(getattr(branch, "config", None), dict):
        raise registry.PluginError(
            f"plugin {plugin.name!r} of {registry.BRANCHES} must build a module with a dictionary `config` of its "
            f"build arguments, but got {type(branch).__name__}"
        )
    with registry.calling(registry.BRANCHES, plugin.name, "forward"), torch.no_grad():
        shape = list(branch.eval()(torch.zeros(2, in_channels, size, size)).shape)
    branch.train()
    expected = [2, out_channels, -(-size // stride), -(-size // stride)]
    if shape != expected:
        raise registry.PluginError(
            f"plugin {plugin.name!r} of {registry.BRANCHES} must map [2, {in_channels}, {size}, {size}] at stride "
            f"{stride} to {expected}, the MB block's output, but got {shape}"
        )
    return branch


def _static_block(block: ParallelBlock, preserve_weight: bool) -> StaticBlock:
    parts: dict[str, nn.Module] = {}
    if MBCONV in block.active:
        conv = block.conv.get_active_subnet(block.conv.in_channels, preserve_weight)
        parts[MBCONV] = ResidualBlock(conv, copy.deepcopy(block.shortcut))
    for name, branch in block.branches.items():
        if name in block.active:
            parts[name] = plain_copy(branch)
    return StaticBlock(parts)


def upstream_key(key: str, own: set[str]) -> str:
    """The name under which this network knows an upstream key, be it of an old or a static network."""
    key = key.replace(".mobile_inverted_conv.", ".conv.")
    if key in own:
        return key
    for old, new in (
        (".bn.bn.", ".bn."),
        (".conv.conv.weight", ".conv.weight"),
        (".linear.linear.", ".linear."),
        (".linear.", ".linear.linear."),
        (".bn.", ".bn.bn."),
        (".conv.weight", ".conv.conv.weight"),
    ):
        if key.replace(old, new) in own:
            return key.replace(old, new)
    return key
