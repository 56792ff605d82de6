"""Re-calibrated statistics are the mean over the batches; of no batches there are none."""

from __future__ import annotations

import copy

import pytest
import torch
from support.upstream_nets import randomise
from torch import Tensor, nn

import ofav2_plugins as ofav2
from ofav2_plugins.models.batch_norm import fold_bn, recalibrate_bn
from ofav2_plugins.upstream import MyConv2d


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


@pytest.mark.parametrize("name", ["SE_B", "EE_DP"])
@pytest.mark.parametrize("fast", [False, True])
def test_folding_keeps_the_outputs(name, fast):
    net = ofav2.build_supernet(name, n_classes=10, width_mult=0.25, dropout_rate=0)
    randomise(net)
    static = net.get_multi_exit_subnet().double().eval()
    x = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        expected = static(x)
        if fast:
            ofav2.accelerate(static)
        fold_bn(static)
        for got, want in zip(static(x), expected, strict=True):
            torch.testing.assert_close(got, want, rtol=0, atol=1e-9 * want.abs().max().item())
    left = sum(isinstance(module, nn.BatchNorm2d) for module in static.modules())
    branches = [b.branches["transform"] for b in net.blocks[1:] if "transform" in b.branches]
    assert left == sum(not hasattr(branch, "conv") for branch in branches), "only those that follow no convolution"


class Backwards(nn.Sequential):
    """Runs its parts from the last to the first."""

    def forward(self, x):
        for part in reversed(self):
            x = part(x)
        return x


class Shifted(nn.BatchNorm2d):
    """A batch norm that does more."""

    def forward(self, x):
        return super().forward(x) + 1


def sequences():
    """What has a convolution before a batch norm, but is not to be folded."""
    activation, conv = nn.Hardtanh(-0.1, 0.1), nn.Conv2d(4, 4, 1)
    hooked = nn.BatchNorm2d(4)
    hooked.register_forward_hook(lambda _module, _inputs, y: y * 2)
    standardised = MyConv2d(4, 4, 3, padding=1)
    standardised.WS_EPS = 1e-5
    return {
        "run from its end": Backwards(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)),
        "one activation twice": nn.Sequential(activation, nn.Conv2d(4, 4, 1), activation, nn.BatchNorm2d(4)),
        "one convolution twice": nn.Sequential(conv, nn.BatchNorm2d(4), conv, nn.BatchNorm2d(4)),
        "a batch norm that does more": nn.Sequential(nn.Conv2d(4, 4, 1), Shifted(4)),
        "a convolution that does more": nn.Sequential(standardised, nn.BatchNorm2d(4)),
        "a hook": nn.Sequential(nn.Conv2d(4, 4, 1), hooked),
        "no statistics": nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
        "weight norm": nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)), nn.BatchNorm2d(4)),
    }


@pytest.mark.parametrize("name", sequences())
def test_only_safe_pairs_are_folded(name):
    torch.manual_seed(0)
    net = sequences()[name].eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 4, 5, 5)
    before = net(x)
    fold_bn(net)
    torch.testing.assert_close(net(x), before)


def test_a_plain_sequence_is_folded():
    net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)).eval()
    net[1].running_mean.normal_()
    before = net(x := torch.randn(2, 4, 5, 5))
    fold_bn(net)
    assert isinstance(net[1], nn.Identity)
    torch.testing.assert_close(net(x), before)
