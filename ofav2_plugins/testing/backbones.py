"""Contract test of backbones."""

from __future__ import annotations

import json
import random
from typing import Any

import torch

from ..backbones.base import Backbone
from ..models.subnet import build_subnet
from ..models.supernet import Supernet, build_supernet
from ..utils.seeding import forked_torch


def check_backbone(plugin: Backbone) -> None:
    """Check keys, static networks and declared dependencies of a small supernet with all additions."""
    with forked_torch("contract"):
        net = build_supernet("EE_DP", n_classes=3, width_mult=0.25, backbone=plugin, dropout_rate=0)
        own = plugin.network(**plugin.arguments(3, 0.25, 0)).state_dict()
        images = torch.randn(2, 3, 32, 32)
    missing = [key for key, value in own.items() if net.state_dict()[key].shape != value.shape]
    assert not missing, f"{plugin.name}: the supernet must have the network's {missing[:3]} in the same shape"
    net.eval()
    rng = random.Random(0)
    for _ in range(3):
        _check_static(plugin, net, images, rng)
    _check_dependencies(plugin, net, rng)


@torch.no_grad()
def _check_static(plugin: Backbone, net: Supernet, images: torch.Tensor, rng: random.Random) -> None:
    arch = net.sample_active_subnet(rng=rng)
    static = net.get_multi_exit_subnet()
    again = build_subnet(json.loads(json.dumps(static.config))).eval()
    again.load_state_dict(static.state_dict())
    for name, logits in (("get_multi_exit_subnet", static(images)), ("build_subnet", again(images))):
        for got, expected in zip(logits, net.forward_exits(images), strict=True):
            error, scale = (got - expected).abs().max().item(), expected.abs().max().item()
            assert error <= 1e-4 * scale, f"{plugin.name}: {name} differs from the supernet by {error} at {arch}"


def _check_dependencies(plugin: Backbone, net: Supernet, rng: random.Random) -> None:
    """Check that changing all entries that a part does not depend on leaves its static form unchanged."""
    dependencies = net.part_dependencies()
    for part in [part for part in dependencies if part[0] in ("stem", "block", "head")][
        :: max(1, len(dependencies) // 12)
    ]:
        configs = set()
        arch = net.space.sample(rng)
        for _ in range(3):
            other = net.space.sample(rng)
            for dim, entry in dependencies[part]:
                other[dim][entry] = arch[dim][entry]
            if "level" in net.space:
                other["level"] = net.space.max_arch()["level"]
            net.set_active_subnet(**other)
            static: Any = net.static_part(part, preserve_weight=False)
            main = static.parts[plugin.main_block] if part[0] == "block" else static
            configs.add(json.dumps(main.config, sort_keys=True))
        assert len(configs) == 1, f"{plugin.name}: {part} depends on more entries than {dependencies[part]}"
