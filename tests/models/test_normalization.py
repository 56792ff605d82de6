"""The fast batch norm against torch's: the same numbers in float64, and float32 as precise as contiguous storage."""

from __future__ import annotations

import copy
import random
import statistics

import pytest
import torch
import torch.nn.functional as F
from support.upstream_nets import upstream_net
from torch import Tensor, nn

import ofav2_plugins as ofav2
from ofav2_plugins.models.layers.normalization import FEW, FastBatchNorm2d, FastDynamicBatchNorm2d
from ofav2_plugins.upstream import DynamicBatchNorm2d


def images(channels: int, shape: tuple[int, int, int], mean: float = 0.3) -> Tensor:
    """Float64 maps in channels-last storage; each channel has its own mean."""
    batch, *size = shape
    generator = torch.Generator().manual_seed(channels)
    x = torch.randn(batch, channels, *size, generator=generator, dtype=torch.float64)
    x += mean * torch.randn(1, channels, 1, 1, generator=generator, dtype=torch.float64)
    return x.contiguous(memory_format=torch.channels_last)


def passed(norm: nn.Module, x: Tensor) -> list[Tensor]:
    """Output, all gradients and buffers after two training passes."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    norm.train()
    norm(x)
    y = norm(x)
    weights = torch.arange(y.numel(), dtype=y.dtype).sin().view_as(y)
    (y * weights).sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in norm.parameters()), *norm.buffers()]


SHAPES = [(64, 8, 8), (3, 17, 19), (5, 13, 13), (2, 1, 300), (64, 2, 2)]


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_torchs_batch_norm_in_float64(shape, momentum):
    plain = nn.BatchNorm2d(24, momentum=momentum).double()
    nn.init.uniform_(plain.weight)
    fast = copy.deepcopy(plain)
    fast.__class__ = FastBatchNorm2d
    x = images(24, shape)
    torch.testing.assert_close(passed(fast, x), passed(plain, x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("active", [8, 24])
def test_fewer_active_channels_equal_upstreams_batch_norm(active, momentum):
    plain = DynamicBatchNorm2d(24).double()
    plain.bn.momentum = momentum
    fast = copy.deepcopy(plain)
    fast.__class__ = FastDynamicBatchNorm2d
    fast.bn.__class__ = FastBatchNorm2d
    x = images(active, (16, 8, 8))
    torch.testing.assert_close(passed(fast, x), passed(plain, x), rtol=1e-10, atol=1e-10)


def test_gradients_can_be_differentiated_again():
    norm = FastBatchNorm2d(2).double()
    x = images(2, (3, 10, 10)).requires_grad_()
    assert x.numel() > FEW * 2

    def second(x: Tensor, weight: Tensor) -> Tensor:
        y = torch.func.functional_call(norm, {"weight": weight}, (x,))
        (grad,) = torch.autograd.grad((y**3).sum(), x, create_graph=True)
        return grad.square().sum()

    weight = norm.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(second, (x, weight), fast_mode=True)


@pytest.mark.parametrize(("channels", "size"), [(16, 32), (96, 16), (240, 8), (160, 4)])
def test_float32_is_as_precise_as_with_contiguous_storage(channels, size):
    x = images(channels, (64, size, size))
    truth = passed(nn.BatchNorm2d(channels).double(), x)
    plain = passed(nn.BatchNorm2d(channels), x.float().contiguous())
    fast = passed(FastBatchNorm2d(channels), x.float())
    for exact, theirs, ours in list(zip(truth, plain, fast, strict=True))[:6]:
        limit = max(2 * (theirs - exact).norm(), 3e-7 * exact.norm())
        assert (ours - exact).norm() <= limit


def gradients(net: nn.Module, arch: dict, x: Tensor) -> dict[str, Tensor]:
    net.train().set_active_subnet(**arch)
    net.zero_grad(set_to_none=True)
    F.cross_entropy(net(x), torch.arange(len(x)) % 10).backward()
    return {name: p.grad.double() for name, p in net.named_parameters() if p.grad is not None}


def test_gradients_of_supernets_are_as_precise_as_upstreams():
    """The relative error of each parameter's gradient; benchmarks/gradients.py measures it at full width."""
    ratios: dict[str, list[float]] = {"median": [], "max": []}
    for seed in range(3):
        theirs = upstream_net(seed=seed, dropout_rate=0)
        ours = ofav2.build_supernet("SE_B", n_classes=10, width_mult=0.25, dropout_rate=0)
        ours.load_state_dict(theirs.state_dict())
        ours.to(memory_format=torch.channels_last)
        arch = ours.space.sample(random.Random(seed))
        x = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
        truth = gradients(copy.deepcopy(theirs).double(), arch, x.double())
        largest = max(value.norm() for value in truth.values())
        compared = [name for name, value in truth.items() if value.norm() > 1e-7 * largest]
        errors = []
        for net in (theirs, ours):
            found = gradients(net, arch, x)
            errors.append([((found[k] - truth[k]).norm() / truth[k].norm()).item() for k in compared])
        for name, figure in (("median", statistics.median), ("max", max)):
            ratios[name].append(figure(errors[1]) / figure(errors[0]))
    assert statistics.median(ratios["median"]) < 2, ratios
    assert statistics.median(ratios["max"]) < 2, ratios
