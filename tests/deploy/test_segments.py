"""Networks with fewer exits, and what exits cost."""

from __future__ import annotations

import itertools

import pytest
import torch

import ofav2_plugins as ofav2
from ofav2_plugins.deploy.segments import exit_costs, keep_exits
from ofav2_plugins.evaluation.cost import count_macs


@pytest.fixture(scope="module")
def net():
    supernet = ofav2.build_supernet("EE_D", n_classes=6, width_mult=0.25)
    supernet.set_active_subnet(ks=3, e=3, d=2, height=4)
    return supernet.get_multi_exit_subnet().eval()


@pytest.mark.parametrize("numbers", [n for size in (1, 2, 3, 4) for n in itertools.combinations((1, 2, 3, 4), size)])
def test_kept_exits_give_the_same_logits_at_the_cost_that_is_stated(net, numbers):
    kept = keep_exits(net, numbers)
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        everything = net.forward_exits(x)
        for got, number in zip(kept.forward_exits(x), numbers, strict=True):
            torch.testing.assert_close(got, everything[number - 1], atol=0, rtol=0)
    assert len(kept.stages) == max(numbers)
    positions = [number - 1 for number in numbers]
    assert exit_costs(net, 16).ending_at(positions)[-1] == count_macs(kept, 16)


def test_a_single_kept_exit_is_an_ordinary_network(net):
    x = torch.zeros(1, 3, 16, 16)
    single = keep_exits(net, [2], multi_exit=False)
    torch.testing.assert_close(single(x), net.forward_exits(x)[1])
    assert ofav2.build_subnet(single.config).eval()(x).shape == (1, 6)
