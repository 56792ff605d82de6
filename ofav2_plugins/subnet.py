"""The static networks a supernet yields: plain torch layers, one exit or several, built from and to a config."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from . import registry
from .errors import UserError
from .layers.parallel import sum_outputs
from .space import MBCONV
from .upstream import ConvLayer, ResidualBlock, layer_from_config


class StaticBlock(nn.Module):
    """A block position with only its active parts: the MB block and branches, whose outputs are summed."""

    def __init__(self, parts: Mapping[str, nn.Module]):
        super().__init__()
        self.parts = nn.ModuleDict(parts)

    @property
    def config(self) -> dict[str, Any]:
        return {name: part.config for name, part in self.parts.items()}

    @classmethod
    def from_config(cls, config: Mapping[str, dict]) -> StaticBlock:
        """The inverse of `config`: part name -> that part's own config."""
        parts = {}
        for name, part in config.items():
            if name == MBCONV:
                parts[name] = layer_from_config(part)
            else:
                parts[name] = registry.load(registry.BRANCHES, name).build(**part)
        return cls(parts)

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
        exit_plugins: Mapping[int, str],
        *,
        skip: str,
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
            "skip": self.skip.name,
            "exits": {
                number: {"plugin": self.exit_plugins[number], "head": head.config}
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
        UserError: The config is not one of a `Subnet`, lacks an entry, or names a plugin that does not exist.
    """
    config = copy.deepcopy(dict(config))
    missing = [key for key in _CONFIG_KEYS if key not in config]
    if config.get("name") != "Subnet" or missing:
        raise UserError(
            "a subnet's config must be what `subnet.config` gives, "
            + (f"but {missing} are missing" if missing else f"but got the name {config['name']!r}")
        )
    numbers, last = sorted(map(int, config["exits"])), len(config["stages"])
    if not numbers or numbers[-1] != last:
        raise UserError(f"a subnet of {last} stages must have an exit after the last one, but got {numbers}")
    try:
        heads = {number: config["exits"][str(number)] for number in numbers}
        net = Subnet(
            layer_from_config(config["first_conv"]),
            layer_from_config(config["first_block"]),
            [[StaticBlock.from_config(block) for block in blocks] for blocks in config["stages"]],
            {n: registry.load(registry.EXITS, h["plugin"]).head_from_config(h["head"]) for n, h in heads.items()},
            {n: h["plugin"] for n, h in heads.items()},
            skip=config["skip"],
            multi_exit=config["multi_exit"],
        )
    except (KeyError, TypeError) as error:
        raise UserError(f"a subnet's config has a malformed entry: {type(error).__name__}: {error}") from error
    set_batch_norm(net, **config["bn"])
    return net


_CONFIG_KEYS = ("name", "bn", "first_conv", "first_block", "stages", "skip", "exits", "multi_exit")


def set_batch_norm(net: nn.Module, momentum: float, eps: float) -> None:
    """Set momentum and eps of every batch norm in `net`, subclasses of BatchNorm2d included."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum, module.eps = momentum, eps
