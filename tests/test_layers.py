"""The fast depthwise convolution against torch's, values and gradients."""

from __future__ import annotations

import copy
import random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import ofav2_plugins as ofav2
from ofav2_plugins.evaluate import count_macs
from ofav2_plugins.layers.accelerate import PLAIN
from ofav2_plugins.layers.depthwise import depthwise_conv2d, reference_layers, tiles_are_faster

from .upstream_nets import randomise


def small_net(name: str) -> ofav2.Supernet:
    net = ofav2.build_supernet(name, n_classes=10, width_mult=0.25, dropout_rate=0)
    randomise(net)
    return net


@settings(max_examples=80)
@given(
    height=st.integers(1, 33),
    width=st.integers(1, 33),
    kernel=st.sampled_from([1, 3, 5, 7, 9, 11, 13]),
    stride=st.sampled_from([1, 2, 3]),
    channels=st.sampled_from([1, 8, 24]),
    channels_last=st.booleans(),
)
def test_equals_torchs_convolution(height, width, kernel, stride, channels, channels_last):
    generator = torch.Generator().manual_seed(height * 1000 + width)
    x = torch.randn(3, channels, height, width, generator=generator, dtype=torch.float64)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    filters = torch.randn(channels, 1, kernel, kernel, generator=generator, dtype=torch.float64)
    results = []
    for convolution in (
        lambda x, f: depthwise_conv2d(x, f, stride),
        lambda x, f: F.conv2d(x, f, None, stride, kernel // 2, 1, channels),
    ):
        leaves = x.clone().requires_grad_(), filters.clone().requires_grad_()
        y = convolution(*leaves)
        (y * torch.arange(y.numel(), dtype=torch.float64).view_as(y).sin()).sum().backward()
        results.append((y.detach(), leaves[0].grad, leaves[1].grad))
    for fast, plain in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-9)


def test_tiles_and_the_library_are_both_among_the_tested_shapes():
    chosen = {
        tiles_are_faster(torch.empty(1, 1, size, size), torch.empty(1, 1, kernel, kernel))
        for size in range(1, 34) for kernel in (3, 5, 7)
    }  # fmt: skip
    assert chosen == {True, False}


def test_reference_layers_are_restored_when_an_error_passes():
    from ofav2_plugins.layers import depthwise

    with pytest.raises(RuntimeError, match="inside"):
        with reference_layers():
            assert depthwise._plain.get()
            raise RuntimeError("inside")
    assert not depthwise._plain.get()


@pytest.mark.parametrize("name", ["SE_B", "EE_DP"])
def test_accelerated_subnets_have_the_same_numbers_gradients_and_keys(name):
    net = small_net(name)
    arch = net.sample_active_subnet(rng=random.Random(3))
    assert arch
    plain = net.get_active_subnet().double().train()
    fast = ofav2.accelerate(copy.deepcopy(plain))
    assert list(fast.state_dict()) == list(plain.state_dict())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, 40, 40, generator=generator, dtype=torch.float64)
    weights = torch.randn(4, 10, generator=generator, dtype=torch.float64)
    outputs = [subnet(x) for subnet in (plain, fast)]
    for y in outputs:
        (y * weights).sum().backward()
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=1e-9 * outputs[0].abs().max().item())
    largest = max(p.grad.norm() for p in plain.parameters())
    for (key, p), q in zip(plain.named_parameters(), fast.parameters(), strict=True):
        assert (p.grad - q.grad).norm() < 1e-8 * largest, key
    assert count_macs(fast.float().eval(), 32) == count_macs(plain.float().eval(), 32)


def test_static_subnets_are_of_plain_layers():
    for static in (small_net("EE_DP").get_active_subnet(), small_net("EE_DP").get_multi_exit_subnet()):
        assert not {type(module) for module in static.modules()} & set(PLAIN)
    assert {type(module) for module in small_net("EE_DP").modules()} & set(PLAIN)


@pytest.mark.parametrize("size", [32, 48])
def test_the_loss_in_float32_is_that_of_upstream(size):
    net = small_net("SE_B").train()
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.randn(16, 3, size, size, generator=generator), torch.arange(16) % 10
    for seed in range(6):
        net.sample_active_subnet(rng=random.Random(seed))
        with torch.no_grad():
            fast = F.cross_entropy(net(x), labels)
            with reference_layers():
                plain = F.cross_entropy(net(x), labels)
        torch.testing.assert_close(fast, plain, rtol=1e-5, atol=0)
