"""Re-calibrated statistics are the mean over the batches; of no batches there are none."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from ofav2_plugins.bn import recalibrate_bn


def net_with_statistics() -> nn.Sequential:
    """Batch norm, a layer, and batch norm, whose statistics are those of nothing."""
    net = nn.Sequential(nn.BatchNorm2d(3, momentum=0.3), nn.ReLU(), nn.BatchNorm2d(3))
    for norm in (net[0], net[2]):
        norm.running_mean.fill_(7)
        norm.running_var.fill_(9)
    net[2].eval()
    return net


def batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, 5, 5, generator=generator) + shift for shift in (0, 2, 4)]


@pytest.mark.parametrize("kind", [list, iter])
def test_statistics_are_the_mean_over_the_batches(kind):
    net = net_with_statistics()
    recalibrate_bn(net, kind(batches()))
    mean = torch.stack([x.mean((0, 2, 3)) for x in batches()]).mean(0)
    var = torch.stack([x.var((0, 2, 3)) for x in batches()]).mean(0)
    torch.testing.assert_close(net[0].running_mean, mean)
    torch.testing.assert_close(net[0].running_var, var)
    assert (net[0].momentum, net[2].momentum) == (0.3, 0.1)
    assert [module.training for module in net] == [True, True, False]


@pytest.mark.parametrize("nothing", [[], iter(())])
def test_no_batches_are_refused_and_the_statistics_kept(nothing):
    net = net_with_statistics()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match="batches must be one or more batches of images, but got none"):
        recalibrate_bn(net, nothing)
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert [module.training for module in net] == [True, True, False]
