"""Changing the dropout before a classifier after the network is built."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from ...upstream import DynamicLinearLayer, LinearLayer


def set_dropout(layers: Iterable[nn.Module], rate: float) -> None:
    """Make upstream's classifiers in `layers` equal to ones built with this rate; parameters are unchanged."""
    for layer in layers:
        if isinstance(layer, (LinearLayer, DynamicLinearLayer)):
            _set_rate(layer, rate)


def _set_rate(layer: LinearLayer | DynamicLinearLayer, rate: float) -> None:
    layer.dropout_rate = rate
    children = dict(layer.named_children())
    for name in children:
        delattr(layer, name)
    if isinstance(layer, DynamicLinearLayer):
        layer.dropout = None  # forward reads this attribute
    for name, child in children.items():  # the other class's forward runs the children in order
        if name == "linear" and rate > 0:
            layer.dropout = nn.Dropout(rate, inplace=True).train(layer.training)
        if name != "dropout":
            layer.add_module(name, child)
