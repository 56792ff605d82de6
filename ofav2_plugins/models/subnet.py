"""Static networks extracted from a supernet: plain torch layers, one or more exits, built from a config."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .. import registry
from ..branches.base import Branch
from ..errors import UserError
from ..plugin import is_reference, to_reference
from ..utils.validation import is_number
from .layers.parallel import sum_outputs
from .spec import SupernetSpec
from .stages import stage_outputs

if TYPE_CHECKING:
    from ..backbones.base import Backbone


class StaticBlock(nn.Module):
    """A block position with its active parts only: the backbone's block and branches, whose outputs are summed."""

    def __init__(self, parts: Mapping[str, nn.Module]):
        super().__init__()
        self.parts = nn.ModuleDict(parts)

    @property
    def config(self) -> dict[str, Any]:
        """Part name -> that part's own config."""
        return {name: part.config for name, part in self.parts.items()}

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> [N, C', H', W']
        return sum_outputs([part(x) for part in self.parts.values()])


class Subnet(nn.Module):
    """A static network: [N, 3, R, R] -> logits [N, n_classes], or the list of its exits' logits.

    Args:
        stem: The layers before the first stage.
        stages: The active blocks of each stage up to the last exit.
        exits: Heads by the 1-based number of the stage they follow, ascending.
        exit_plugins: The plugin that rebuilds each head (`ofav2.exits`), by the same numbers.
        spec: The supernet's plugins.
        multi_exit: Whether `forward` returns the logits of all exits instead of the last one's.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[Sequence[nn.Module]],
        exits: Mapping[int, nn.Module],
        exit_plugins: Mapping[int, Any],
        *,
        spec: SupernetSpec,
        multi_exit: bool = False,
    ):
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(nn.ModuleList(blocks) for blocks in stages)
        self.exits = nn.ModuleDict({str(number): head for number, head in exits.items()})
        self.spec = spec
        self.skip = registry.load(registry.SKIPS, spec.skip)
        self.exit_plugins = {str(number): name for number, name in exit_plugins.items()}
        self.multi_exit = multi_exit

    @property
    def config(self) -> dict[str, Any]:
        """A JSON-able description from which `build_subnet` rebuilds the architecture."""
        bn = next(m for m in self.modules() if isinstance(m, nn.BatchNorm2d))
        references = self.spec.to_dict()
        return {
            "name": "Subnet",
            "backbone": references["backbone"],
            "branches": references["branches"],
            "skip": references["skip"],
            "bn": {"momentum": bn.momentum, "eps": bn.eps},
            "stem": self.stem.config,
            "stages": [[block.config for block in blocks.children()] for blocks in self.stages],
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
        self.skip.training = self.training
        outputs = stage_outputs(self.skip, self.stages, self.stem(x))
        return [self.exits[str(number)](y) for number, y in outputs if str(number) in self.exits]


def build_subnet(config: Mapping[str, Any]) -> Subnet:
    """Build a static network from the `config` of another one, with newly initialized weights.

    Raises:
        UserError: The config is not one of a `Subnet`, or names an unknown plugin; the message names the entry.
    """
    _check_config(config)
    backbone: Backbone = registry.load(registry.BACKBONES, config["backbone"])
    branches = registry.load_all(registry.BRANCHES, config["branches"])
    builders: dict[str, Callable[[dict[str, Any]], nn.Module]] = {backbone.main_block: backbone.build_layer}
    builders |= {name: functools.partial(_branch, plugin) for name, plugin in branches.items()}
    stages = [
        [_static_block(f"stages[{i}][{j}]", block, builders) for j, block in enumerate(blocks)]
        for i, blocks in enumerate(config["stages"])
    ]
    heads = {number: config["exits"][str(number)] for number in sorted(map(int, config["exits"]))}
    net = Subnet(
        _built("stem", backbone.layers_from_config, config["stem"]),
        stages,
        {
            n: _built(f"exits.{n}.head", _head_builder(head["plugin"], backbone), head["head"])
            for n, head in heads.items()
        },
        {n: head["plugin"] for n, head in heads.items()},
        spec=SupernetSpec(config["backbone"], config["branches"], config["skip"]),
        multi_exit=config["multi_exit"],
    )
    set_batch_norm(net, **config["bn"])
    return net


_CONFIG_KEYS = ("name", "backbone", "branches", "skip", "bn", "stem", "stages", "exits", "multi_exit")


def _check_config(config: Any) -> None:
    """Check a config, except the entries for layers, branches and heads."""
    _require(isinstance(config, Mapping), "it", "the value of `subnet.config`", config)
    missing = [key for key in _CONFIG_KEYS if key not in config]
    if missing:
        raise UserError(f"a subnet's config must be the value of `subnet.config`, but {', '.join(missing)} is missing")
    _require(config["name"] == "Subnet", "name", "'Subnet'", config["name"])
    for part in ("backbone", "skip"):
        _require(is_reference(config[part]), part, "a plugin's name, or its name and settings", config[part])
    branches = config["branches"]
    listed = isinstance(branches, (list, tuple)) and all(map(is_reference, branches))
    _require(listed, "branches", "a list of plugins", branches)
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
    _require(isinstance(config["multi_exit"], bool), "multi_exit", "true or false", config["multi_exit"])
    exits, last = config["exits"], str(len(stages))
    numbered = isinstance(exits, Mapping) and {last} <= set(exits) <= {str(i + 1) for i in range(len(stages))}
    _require(numbered, "exits", f"a mapping of stage numbers among '1'..'{last}', the last one included", exits)
    for number, head in exits.items():
        named = isinstance(head, Mapping) and is_reference(head.get("plugin")) and "head" in head
        _require(named, f"exits.{number}", "a mapping with a plugin's name and its head", head)


def _require(right: bool, entry: str, allowed: str, given: Any) -> None:
    if not right:
        raise UserError(f"the subnet's config: {entry} must be {allowed}, but got {given!r}")


def _filled_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0


def _static_block(
    entry: str, config: Mapping[str, Any], builders: Mapping[str, Callable[[dict[str, Any]], nn.Module]]
) -> StaticBlock:
    for name in config:
        _require(name in builders, entry, f"a mapping with parts among {', '.join(builders)}", name)
    return StaticBlock({name: _built(f"{entry}.{name}", builders[name], part) for name, part in config.items()})


def _branch(plugin: Branch, config: dict[str, Any]) -> nn.Module:
    return plugin.build(**config)


def _head_builder(plugin: Any, backbone: Backbone) -> Callable[[dict[str, Any]], nn.Module]:
    exits = registry.load(registry.EXITS, plugin)
    exits.backbone = backbone
    build: Callable[[dict[str, Any]], nn.Module] = exits.head_from_config
    return build


def _built(entry: str, build: Callable[[dict[str, Any]], nn.Module], config: Any) -> Any:
    """The module that `build` creates from a config entry."""
    filled = isinstance(config, Mapping) and len(config) > 0
    _require(filled, entry, "a mapping of the arguments that it is built from", config)
    try:
        return build(copy.deepcopy(dict(config)))
    except Exception as error:
        raise UserError(f"the subnet's config: {entry} cannot be built: {type(error).__name__}: {error}") from error


def set_batch_norm(net: nn.Module, momentum: float | None, eps: float) -> None:
    """Set momentum and eps of every batch norm in `net`, including subclasses of BatchNorm2d."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum, module.eps = momentum, eps
