"""The layers of static networks, and the conversion of elastic layers to them.

An elastic layer is one of upstream's, or any module with upstream's protocol: `get_active_subnet(in_channels,
preserve_weight)` returns its active part as plain layers, with a JSON-able `config`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from ...upstream import IdentityLayer, MyGlobalAvgPool2d, ResidualBlock, layer_from_config
from .accelerate import plain_copy


class Layers(nn.Sequential):
    """Named layers that run in order: a stem, or a head. Each has a `config`."""

    def __init__(self, layers: Mapping[str, nn.Module]):
        super().__init__(OrderedDict(layers))

    @property
    def config(self) -> dict[str, Any]:
        """Layer name -> the layer's own config."""
        return {name: layer.config for name, layer in self.named_children()}

    @classmethod
    def from_config(cls, config: Mapping[str, dict[str, Any]], build: Callable[[dict[str, Any]], nn.Module]) -> Layers:
        """The inverse of `config`; `build` creates a layer from its config."""
        return cls({name: build(layer) for name, layer in config.items()})


class GlobalPool(MyGlobalAvgPool2d):
    """Global average pooling, over columns first, as upstream does: [N, C, H, W] -> [N, C, 1, 1] or [N, C]."""

    @property
    def config(self) -> dict[str, Any]:
        return {"name": "GlobalPool", "keep_dim": self.keep_dim}


class Flatten(nn.Flatten):
    """[N, C, 1, 1] -> [N, C]."""

    config = {"name": "Flatten"}


class MaxPool(nn.MaxPool2d):
    """The pooling of a ResNet's stem: [N, C, H, W] -> [N, C, H/2, W/2], rounded up."""

    config = {"name": "MaxPool"}

    def __init__(self) -> None:
        super().__init__(kernel_size=3, stride=2, padding=1)


_OWN: dict[str, type[nn.Module]] = {"GlobalPool": GlobalPool, "Flatten": Flatten, "MaxPool": MaxPool}


def build_layer(config: Mapping[str, Any]) -> nn.Module:
    """Build a layer from its config; its "name" is a layer of upstream or of this module."""
    if config.get("name") in _OWN:
        own: nn.Module = _OWN[config["name"]](**{key: value for key, value in config.items() if key != "name"})
        return own
    layer: nn.Module = layer_from_config(dict(config))
    return layer


def static_layer(layer: Any, in_channels: int, preserve_weight: bool = True) -> nn.Module:
    """The active part of an elastic layer as plain layers; a copy of any other layer.

    Args:
        layer: A layer of the supernet.
        in_channels: Active channels of its input.
        preserve_weight: Whether to copy the active weights; otherwise new weights are initialized.
    """
    if hasattr(layer, "get_active_subnet"):
        subnet: nn.Module = layer.get_active_subnet(in_channels, preserve_weight)
        return subnet
    if isinstance(layer, ResidualBlock):
        # The config of an identity shortcut has a channel number; an elastic block has several.
        identity = IdentityLayer(in_channels, in_channels) if isinstance(layer.shortcut, IdentityLayer) else None
        shortcut = identity or (plain_copy(layer.shortcut) if layer.shortcut is not None else None)
        block: nn.Module = ResidualBlock(static_layer(layer.conv, in_channels, preserve_weight), shortcut)
        return block
    copy: nn.Module = plain_copy(layer)
    return copy


def static_layers(layers: Mapping[str, nn.Module], in_channels: int, preserve_weight: bool = True) -> Layers:
    """The active parts of layers that run one after the other; see `static_layer`."""
    made: dict[str, nn.Module] = {}
    for name, layer in layers.items():
        made[name] = static_layer(layer, in_channels, preserve_weight)
        main = made[name].conv if isinstance(made[name], ResidualBlock) else made[name]
        in_channels = getattr(main, "out_channels", in_channels)
    return Layers(made)
