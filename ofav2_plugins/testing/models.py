"""Contract tests of the parts of a network: branches, skips, exits."""

from __future__ import annotations

import itertools
import json
from typing import Any

import torch
from torch import Tensor, nn

from ..branches.base import Branch
from ..exits.base import Exits
from ..skips.base import Skip
from ..utils.seeding import forked_torch


def check_branch(plugin: Branch) -> None:
    """Check that it has the right shapes, changes nothing in place, and can be rebuilt from its config."""
    shapes = [((16, 16), 1), ((16, 24), 1), ((16, 24), 2), ((8, 8), 2)]
    for (channels, stride), size in itertools.product(shapes, (1, 7, 8)):
        with forked_torch("contract", size):
            branch = plugin.build(*channels, stride, "h_swish").eval()
            x = torch.randn(2, channels[0], size, size)
        again = plugin.build(**_through_json(branch.config)).eval()
        again.load_state_dict(branch.state_dict())
        before = x.clone()
        y = branch(x)
        expected = (2, channels[1], -(-size // stride), -(-size // stride))
        assert y.shape == expected, (
            f"{plugin.name}: the output must have the shape {expected}, but got {tuple(y.shape)}"
        )
        assert torch.equal(x, before), f"{plugin.name} must not change its input in place"
        assert torch.equal(again(x), y), f"{plugin.name}: build(**branch.config) must make the same module"


def check_skip(plugin: Skip) -> None:
    """Check that every block runs once, in order, at any depth, without in-place changes or changes of shape."""
    for depth in range(1, 7):
        calls: list[tuple[int, Tensor, Tensor]] = []

        def block(x: Tensor, number: int, calls: list[tuple[int, Tensor, Tensor]] = calls) -> Tensor:
            calls.append((number, x, x.clone()))
            return 2 * x + 1

        x = torch.ones(1, 2, 3, 3)
        y = plugin.run([lambda x, n=n: block(x, n) for n in range(depth)], x)  # type: ignore[misc]
        assert y.shape == x.shape, f"{plugin.name}: the shape must stay {tuple(x.shape)}, but got {tuple(y.shape)}"
        order = [number for number, _, _ in calls]
        assert order == list(range(depth)), (
            f"{plugin.name} must run each of {depth} blocks once in order, but ran {order}"
        )
        for _, given, copied in calls:
            assert torch.equal(given, copied), f"{plugin.name} must not change a tensor in place"


def check_exits(plugin: Exits) -> None:
    """Check that heads are at ascending stages before the last, give logits, and can be rebuilt from their config."""
    widths, n_classes = [8, 16, 24, 32, 40], 7
    heads = plugin.heads(widths, n_classes, 0.1)
    assert isinstance(heads, nn.ModuleDict), (
        f"{plugin.name}: heads must be a ModuleDict, but got {type(heads).__name__}"
    )
    numbers = [int(number) for number in heads]
    assert numbers == sorted(set(numbers) & {1, 2, 3, 4}), (
        f"{plugin.name}: exits must ascend in 1..4, but got {numbers}"
    )
    for number, head in heads.items():
        again = plugin.head_from_config(_through_json(head.config))
        again.load_state_dict(head.state_dict())
        x = torch.randn(2, widths[int(number) - 1], 3, 3)
        logits = head.eval()(x)
        assert logits.shape == (2, n_classes), f"{plugin.name}: logits must be [2, 7], but got {list(logits.shape)}"
        assert torch.equal(again.eval()(x), logits), f"{plugin.name}: head_from_config must make the same head"


def _through_json(config: object) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(json.dumps(config))
    return parsed
