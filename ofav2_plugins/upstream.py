"""The only module that imports `ofa`: applies the upstream patches, then re-exports the names that the package uses."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

import upstream_patches

upstream_patches.apply_all()

from ofa.imagenet_classification.elastic_nn.modules.dynamic_layers import (  # noqa: E402
    DynamicLinearLayer,
    DynamicMBConvLayer,
)
from ofa.imagenet_classification.elastic_nn.modules.dynamic_op import (  # noqa: E402
    DynamicBatchNorm2d,
    DynamicConv2d,
    DynamicSE,
    DynamicSeparableConv2d,
)
from ofa.imagenet_classification.elastic_nn.networks import (  # noqa: E402
    OFAMobileNetV3,
    OFAProxylessNASNets,
    OFAResNets,
)
from ofa.utils import (  # noqa: E402
    MyGlobalAvgPool2d,
    MyNetwork,
    build_activation,
    init_models,
    make_divisible,
)
from ofa.utils.layers import (  # noqa: E402
    ConvLayer,
    IdentityLayer,
    LinearLayer,
    MBConvLayer,
    My2DLayer,
    ResidualBlock,
    set_layer_from_config,
)
from ofa.utils.my_modules import MyConv2d  # noqa: E402
from ofa.utils.pytorch_modules import Hswish, SEModule  # noqa: E402

__all__ = [
    "ConvLayer",
    "DynamicBatchNorm2d",
    "DynamicConv2d",
    "DynamicLinearLayer",
    "DynamicMBConvLayer",
    "DynamicSE",
    "DynamicSeparableConv2d",
    "Hswish",
    "IdentityLayer",
    "LinearLayer",
    "MBConvLayer",
    "My2DLayer",
    "MyConv2d",
    "MyGlobalAvgPool2d",
    "MyNetwork",
    "OFAMobileNetV3",
    "OFAProxylessNASNets",
    "OFAResNets",
    "ResidualBlock",
    "SEModule",
    "build_activation",
    "extended",
    "init_models",
    "layer_from_config",
    "make_divisible",
    "new_layers",
]


@contextmanager
def new_layers(dtype: torch.dtype) -> Iterator[None]:
    """Within this context, new layers have this dtype, and drawing their weights does not change torch's random state.

    Upstream draws weights even for layers whose weights are copied from the supernet afterwards.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_default_dtype(before)


def layer_from_config(config: dict[str, Any] | None) -> Any:
    """Upstream's `set_layer_from_config` on a copy, because upstream removes keys from the given dictionary."""
    return set_layer_from_config(copy.deepcopy(config))


_EXTENDED: dict[tuple[type, type], Any] = {}


def extended(mixin: type, base: type) -> Any:
    """A cached class with the bases (`mixin`, `base`): upstream's class with the mixin's methods.

    Its instances can be pickled, although the class is not an attribute of any module.
    """
    if (mixin, base) not in _EXTENDED:
        members = {"__module__": mixin.__module__, "__doc__": mixin.__doc__, "__reduce__": _reduce}
        _EXTENDED[mixin, base] = type(f"{mixin.__name__}{base.__name__}", (mixin, base), members)
    return _EXTENDED[mixin, base]


def _reduce(module: nn.Module) -> tuple[Any, ...]:
    mixin, base = type(module).__bases__
    return _new_extended, (mixin, base), module.__dict__


def _new_extended(mixin: type, base: type) -> nn.Module:
    network: nn.Module = nn.Module.__new__(extended(mixin, base))
    return network
