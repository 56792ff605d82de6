"""The dropout before a classifier, changed after the network is built."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from ...upstream import DynamicLinearLayer, LinearLayer


def set_dropout(layers: Iterable[nn.Module], rate: float) -> None:
    """Leave each of upstream's classifiers among `layers` as if built with this rate, with the same parameters."""
    for layer in layers:
        if isinstance(layer, (LinearLayer, DynamicLinearLayer)):
            _set_rate(layer, rate)


def _set_rate(layer: LinearLayer | DynamicLinearLayer, rate: float) -> None:
    layer.dropout_rate = rate
    children = dict(layer.named_children())
    for name in children:
        delattr(layer, name)
    if isinstance(layer, DynamicLinearLayer):
        layer.dropout = None  # its forward reads the attribute
    for name, child in children.items():  # the forward of the other one runs the children in order
        if name == "linear" and rate > 0:
            layer.dropout = nn.Dropout(rate, inplace=True).train(layer.training)
        if name != "dropout":
            layer.add_module(name, child)
