"""Contract of `ofav2.backbones`: the network that a supernet extends (OFA, arXiv 1908.09791, section 3).

`models.supernet.Supernet` is a mixin for the network's class. It adds branches, skips and exits, and accesses the
network only through the methods below, which receive it as `net`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import nn

from ..models.layers.static import Layers, build_layer
from ..plugin import Plugin
from ..space import Arch, ElasticDim, Requirement

Entry = tuple[str, int]
"""An entry of an architecture: a dimension's name and the index in it (0 for a scalar dimension)."""

Part = tuple[str, int]
"""A part of a network: ("stem", 0), ("block", position), ("branch", position), ("head", exit number), ("depth", stage).

Positions and stages count from 0, exits from 1. ("block", position) is the backbone's own block, ("branch", position)
any branch in parallel with it, and ("depth", stage) the number of active blocks of a stage.
"""


class Backbone(Plugin, ABC):
    """A network with a stem, stages of blocks and a tail.

    Layers and blocks have a `config`. The `forward` of a block must call its layers by name: branches are added as
    submodules, and an nn.Sequential would run them too. Elastic layers infer the number of input channels from their
    input; their `get_active_subnet(in_channels, preserve_weight)` returns the active part as plain layers
    (`models.layers.static`). The settings of a backbone are its own options, such as the values of its elastic
    dimensions.
    """

    network: type[nn.Module]
    """The network class that is extended."""
    main_block: str
    """The name of the backbone's own block in `level`."""
    bn_param: tuple[float, float] = (0.1, 1e-5)
    """Default momentum and eps of the batch norms."""

    @abstractmethod
    def arguments(self, n_classes: int, width_mult: float, dropout_rate: float) -> dict[str, Any]:
        """The arguments of the network's constructor; `width_mult` multiplies all channels."""

    @abstractmethod
    def dims(self) -> tuple[ElasticDim, ...]:
        """The network's elastic dimensions; branches and exits add `level` and `height` to them."""

    @abstractmethod
    def stem(self, net: Any) -> dict[str, nn.Module]:
        """The active layers before the first stage by name, in order."""

    @abstractmethod
    def stages(self, net: Any) -> list[list[Any]]:
        """The blocks of each stage, active or not. Branches and exits see these positions and stages."""

    @abstractmethod
    def tail(self, net: Any) -> dict[str, nn.Module]:
        """The layers from the last stage's output to the logits by name, in order."""

    @abstractmethod
    def head(self, width: int, n_classes: int, dropout: float) -> Layers:
        """A copy of the tail for a stage with `width` channels, of plain layers: [N, width, H, W] -> [N, n_classes]."""

    @abstractmethod
    def activate(self, net: Any, arch: Arch) -> None:
        """Make an architecture (complete and valid) active in the network's layers."""

    @abstractmethod
    def depths(self, arch: Arch) -> list[int]:
        """The number of active blocks of each stage."""

    @abstractmethod
    def widths(self, net: Any) -> list[int]:
        """The active channels after the stem and after each stage."""

    @abstractmethod
    def dependencies(self, part: Part) -> tuple[Entry, ...]:
        """The entries of an architecture on which a part depends; other entries do not change its static form.

        Costs can be tabulated because a part depends on few entries. `level` and `height` are not included.
        """

    @abstractmethod
    def requirement(self, stage: int, index: int) -> Requirement:
        """The condition under which block `index` of a stage (both from 0) is part of the network."""

    def stride(self, block: Any) -> int:
        """The stride of a block."""
        stride: int = block.stride
        return stride

    def act_func(self, block: Any) -> str:
        """The activation of a block, by upstream's name ("relu", "relu6", "h_swish")."""
        name: str = block.act_func
        return name

    def prepare(self, net: Any) -> None:
        """Replace layers of a new network by faster ones with the same parameters."""

    def residual_norms(self, net: Any) -> list[Any]:
        """The last batch norm of every block with an identity shortcut; see `Supernet.zero_last_gamma`."""
        return []

    def reorder_channels(self, net: Any, stage: int) -> None:
        """Sort the channels that the width steps remove by importance, so that a smaller network keeps the best ones.

        The default calls the network's own `re_organize_middle_weights`, if it has one.

        Args:
            net: The supernet; the maximal network's output does not change.
            stage: The number of completed width steps; the channel groups that they trained are kept.
        """
        sort = getattr(self.network, "re_organize_middle_weights", None)
        if sort is not None:
            sort(net, expand_ratio_stage=stage)

    def build_layer(self, config: Mapping[str, Any]) -> nn.Module:
        """Build a layer of a static network from its `config`. Backbones with custom layers override this."""
        return build_layer(config)

    def layers_from_config(self, config: Mapping[str, dict[str, Any]]) -> Layers:
        """Build a stem or a head from its `config`."""
        return Layers.from_config(config, self.build_layer)
