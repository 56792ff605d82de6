"""The static networks a supernet yields: plain torch layers, one exit or several, built from and to a config."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .. import registry
from ..errors import UserError
from ..plugin import is_reference, to_reference
from ..space import MBCONV
from ..upstream import ConvLayer, ResidualBlock, layer_from_config
from ..utils.validation import is_number
from .layers.parallel import sum_outputs


class StaticBlock(nn.Module):
    """A block position with only its active parts: the MB block and branches, whose outputs are summed."""

    def __init__(self, parts: Mapping[str, nn.Module]):
        super().__init__()
        self.parts = nn.ModuleDict(parts)

    @property
    def config(self) -> dict[str, Any]:
        return {name: part.config for name, part in self.parts.items()}

    @classmethod
    def from_config(cls, config: Mapping[str, dict], where: str = "block") -> StaticBlock:
        """The inverse of `config`: part name -> that part's own config.

        Raises:
            UserError: A part cannot be built from its config; names it within `where`.
        """
        return cls({name: _built(f"{where}.{name}", _part_builder(name), part) for name, part in config.items()})

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, C', H', W']
        return sum_outputs([part(x) for part in self.parts.values()])


class Subnet(nn.Module):
    """A static network: [N, 3, R, R] -> logits [N, n_classes], or the list of its exits' logits.

    Args:
        first_conv: Upstream's stem.
        first_block: Upstream's first MB block.
        stages: The active blocks of each stage up to the last exit.
        exits: Heads by the 1-based number of the stage they follow, ascending.
        exit_plugins: By the same number, the name of the plugin that rebuilds the head (`ofav2.exits`).
        skip: Name of the wiring within a stage (`ofav2.skips`).
        multi_exit: Whether `forward` returns the logits of all exits, or only the last one's.
    """

    def __init__(
        self,
        first_conv: ConvLayer,
        first_block: ResidualBlock,
        stages: Sequence[Sequence[StaticBlock]],
        exits: Mapping[int, nn.Module],
        exit_plugins: Mapping[int, Any],
        *,
        skip: Any,
        multi_exit: bool = False,
    ):
        super().__init__()
        self.first_conv = first_conv
        self.first_block = first_block
        self.stages = nn.ModuleList(nn.ModuleList(blocks) for blocks in stages)
        self.exits = nn.ModuleDict({str(number): head for number, head in exits.items()})
        self.skip = registry.load(registry.SKIPS, skip)
        self.exit_plugins = {str(number): name for number, name in exit_plugins.items()}
        self.multi_exit = multi_exit

    @property
    def config(self) -> dict[str, Any]:
        """A JSON-able description from which `build_subnet` makes the same architecture."""
        bn = next(m for m in self.modules() if isinstance(m, nn.BatchNorm2d))
        return {
            "name": "Subnet",
            "bn": {"momentum": bn.momentum, "eps": bn.eps},
            "first_conv": self.first_conv.config,
            "first_block": self.first_block.config,
            "stages": [[block.config for block in blocks.children()] for blocks in self.stages],
            "skip": to_reference(self.skip),
            "exits": {
                number: {"plugin": to_reference(self.exit_plugins[number]), "head": head.config}
                for number, head in self.exits.items()
            },
            "multi_exit": self.multi_exit,
        }

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        logits = self.forward_exits(x)
        return logits if self.multi_exit else logits[-1]

    def forward_exits(self, x: Tensor) -> list[Tensor]:
        """The logits [N, n_classes] of every exit, the earliest first."""
        x = self.first_block(self.first_conv(x))
        logits = []
        for number, blocks in enumerate(self.stages, start=1):
            x = self.skip.run(blocks, x)
            if str(number) in self.exits:
                logits.append(self.exits[str(number)](x))
        return logits


def build_subnet(config: Mapping[str, Any]) -> Subnet:
    """A static network from the `config` of another (freshly initialised weights).

    Raises:
        UserError: The config is not one of a `Subnet`, or names a plugin that does not exist; names the entry.
    """
    _check_config(config)
    heads = {number: config["exits"][str(number)] for number in sorted(map(int, config["exits"]))}
    net = Subnet(
        _built("first_conv", layer_from_config, config["first_conv"]),
        _built("first_block", layer_from_config, config["first_block"]),
        [
            [StaticBlock.from_config(block, f"stages[{i}][{j}]") for j, block in enumerate(blocks)]
            for i, blocks in enumerate(config["stages"])
        ],
        {n: _built(f"exits.{n}.head", _head_builder(head["plugin"]), head["head"]) for n, head in heads.items()},
        {n: head["plugin"] for n, head in heads.items()},
        skip=config["skip"],
        multi_exit=config["multi_exit"],
    )
    set_batch_norm(net, **config["bn"])
    return net


_CONFIG_KEYS = ("name", "bn", "first_conv", "first_block", "stages", "skip", "exits", "multi_exit")


def _check_config(config: Any) -> None:
    """Everything about a config but what the layers, branches and heads in it are built from."""
    _require(isinstance(config, Mapping), "it", "what `subnet.config` gives", config)
    missing = [key for key in _CONFIG_KEYS if key not in config]
    if missing:
        raise UserError(f"a subnet's config must be what `subnet.config` gives, but {', '.join(missing)} is missing")
    _require(config["name"] == "Subnet", "name", "'Subnet'", config["name"])
    bn = config["bn"]
    numbers = isinstance(bn, Mapping) and set(bn) == {"momentum", "eps"} and all(map(is_number, bn.values()))
    _require(numbers, "bn", "the numbers momentum and eps", bn)
    stages = config["stages"]
    _require(_filled_list(stages), "stages", "a list of stages", stages)
    for i, blocks in enumerate(stages):
        _require(_filled_list(blocks), f"stages[{i}]", "a list of blocks", blocks)
        for j, block in enumerate(blocks):
            filled = isinstance(block, Mapping) and len(block) > 0
            _require(filled, f"stages[{i}][{j}]", "a mapping of one or more parts", block)
    _require(is_reference(config["skip"]), "skip", "a plugin's name, or its name and settings", config["skip"])
    _require(isinstance(config["multi_exit"], bool), "multi_exit", "true or false", config["multi_exit"])
    exits, last = config["exits"], str(len(stages))
    numbered = isinstance(exits, Mapping) and {last} <= set(exits) <= {str(i + 1) for i in range(len(stages))}
    _require(numbered, "exits", f"a mapping of stage numbers among '1'..'{last}', the last one included", exits)
    for number, head in exits.items():
        named = isinstance(head, Mapping) and is_reference(head.get("plugin")) and "head" in head
        _require(named, f"exits.{number}", "a mapping with a plugin's name and its head", head)


def _require(right: bool, entry: str, allowed: str, given: Any) -> None:
    if not right:
        raise UserError(f"a subnet's config: {entry} must be {allowed}, but got {given!r}")


def _filled_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0


def _part_builder(name: str) -> Callable[[dict], nn.Module]:
    if name == MBCONV:
        return layer_from_config
    branch = registry.load(registry.BRANCHES, name)
    return lambda config: branch.build(**config)


def _head_builder(plugin: Any) -> Callable[[dict], nn.Module]:
    return registry.load(registry.EXITS, plugin).head_from_config


def _built(entry: str, build: Callable[[dict], nn.Module], config: Any) -> Any:
    """What `build` makes of an entry of a config."""
    _require(isinstance(config, Mapping), entry, "a mapping of what it is built from", config)
    try:
        return build(copy.deepcopy(dict(config)))
    except Exception as error:
        raise UserError(f"a subnet's config: {entry} cannot be built: {type(error).__name__}: {error}") from error


def set_batch_norm(net: nn.Module, momentum: float, eps: float) -> None:
    """Set momentum and eps of every batch norm in `net`, subclasses of BatchNorm2d included."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum, module.eps = momentum, eps
