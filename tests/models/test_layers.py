"""The fast depthwise convolution against torch's, values and gradients."""

from __future__ import annotations

import copy
import pickle
import random
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from support.upstream_nets import randomise

import ofav2_plugins as ofav2
from ofav2_plugins.evaluation.cost import count_macs
from ofav2_plugins.models.layers.accelerate import PLAIN, use_fast_layers
from ofav2_plugins.models.layers.depthwise import depthwise_conv2d, fast_on, reference_layers, tiles_are_faster
from ofav2_plugins.upstream import DynamicConv2d


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
    from ofav2_plugins.models.layers import depthwise

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


class Doubled(torch.nn.Conv2d):
    """A convolution that is more than its class's parent."""

    def forward(self, x):
        return 2 * super().forward(x)


UNUSUAL = {
    "plain 1x1": torch.nn.Conv2d(6, 4, 1),
    "1x1 with stride": torch.nn.Conv2d(6, 4, 1, 2),
    "1x1 with padding": torch.nn.Conv2d(6, 4, 1, padding=1),
    "1x1 with groups": torch.nn.Conv2d(6, 6, 1, groups=3),
    "circular 1x1": torch.nn.Conv2d(6, 4, 1, padding=1, padding_mode="circular"),
    "depthwise": torch.nn.Conv2d(6, 6, 5, padding=2, groups=6, bias=False),
    "depthwise with bias": torch.nn.Conv2d(6, 6, 5, padding=2, groups=6),
    "dilated depthwise": torch.nn.Conv2d(6, 6, 5, padding=4, dilation=2, groups=6, bias=False),
    "dilated, padded as if it were not": torch.nn.Conv2d(6, 6, 5, padding=2, dilation=2, groups=6, bias=False),
    "circular depthwise": torch.nn.Conv2d(6, 6, 5, padding=2, groups=6, bias=False, padding_mode="circular"),
    "depthwise with two outputs each": torch.nn.Conv2d(6, 12, 5, padding=2, groups=6, bias=False),
    "rectangular depthwise": torch.nn.Conv2d(6, 6, (3, 5), padding=(1, 2), groups=6, bias=False),
    "depthwise without padding": torch.nn.Conv2d(6, 6, 5, groups=6, bias=False),
    "even depthwise": torch.nn.Conv2d(6, 6, 4, padding=2, groups=6, bias=False),
    "two strides": torch.nn.Conv2d(6, 6, 5, (1, 2), padding=2, groups=6, bias=False),
    "same by name": torch.nn.Conv2d(6, 6, 5, padding="same", groups=6, bias=False),
    "a subclass": Doubled(6, 6, 1),
}


@pytest.mark.parametrize("size", [(9, 9), (2, 7), (1, 1)])
@pytest.mark.parametrize("name", UNUSUAL)
def test_accelerated_convolutions_of_every_kind_keep_their_output(name, size):
    plain = torch.nn.Sequential(copy.deepcopy(UNUSUAL[name])).double()
    fast = ofav2.accelerate(ofav2.accelerate(copy.deepcopy(plain)))
    images = torch.randn(2, 6, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = []
    for net in (plain, fast):
        x = images.clone().requires_grad_()
        try:
            y = net(x)
        except RuntimeError as error:  # a map too small for it
            found.append(str(error))
            continue
        (y * torch.arange(y.numel(), dtype=torch.float64).view_as(y).cos()).sum().backward()
        found.append([y.detach(), x.grad, *(p.grad for p in net.parameters())])
    if isinstance(found[0], str):
        assert isinstance(found[1], str)
    else:
        torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_can_be_differentiated_again(stride):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 6, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    filters = torch.randn(3, 1, 5, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    assert tiles_are_faster(x, filters)
    assert torch.autograd.gradgradcheck(lambda x, f: depthwise_conv2d(x, f, stride), (x, filters))


def test_other_devices_and_autocast_have_upstreams_layers():
    assert fast_on(torch.empty(1, 1, 1, 1))
    assert not fast_on(torch.empty(1, 1, 1, 1, device="meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not fast_on(torch.empty(1, 1, 1, 1))


def assert_fast_equals_reference(net: ofav2.Supernet, x: torch.Tensor, labels: torch.Tensor) -> None:
    """In float64 the output within 1e-9, and each gradient within 1e-8 of the largest gradient's norm."""
    outputs, gradients = [], []
    for layers in (nullcontext(), reference_layers()):
        net.zero_grad()
        with layers:
            outputs.append(net(x))
            F.cross_entropy(outputs[-1], labels).backward()
        gradients.append({name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None})
    assert (outputs[0] - outputs[1]).abs().max() < 1e-9 * outputs[1].abs().max()
    largest = max(gradient.norm() for gradient in gradients[1].values())
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[1].items():
        assert (gradients[0][name] - gradient).norm() < 1e-8 * largest, name


@pytest.mark.parametrize("size", [32, 48])
def test_supernets_have_upstreams_numbers_in_float64(variant, size):
    net = small_net(variant).double().train().to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(size)
    x = torch.randn(8, 3, size, size, generator=generator, dtype=torch.float64)
    net.set_max_net()
    for seed in range(3):
        assert_fast_equals_reference(net, x, torch.arange(8))
        net.sample_active_subnet(rng=random.Random(seed))


def test_weights_that_upstream_standardises_are_standardised():
    from ofa.utils.my_modules import replace_conv2d_with_my_conv2d

    net = small_net("SE_B").double().train()
    before = net(x := torch.randn(8, 3, 32, 32, dtype=torch.float64))
    replace_conv2d_with_my_conv2d(net, 1e-5)
    net.double()
    assert (net(x) - before).abs().max() > 0.01
    assert_fast_equals_reference(net, x, torch.arange(8))


def test_subnets_are_pickled_copied_and_exported():
    net = small_net("EE_D").eval()
    net.set_active_subnet(ks=5, e=3, d=2, height=3)
    subnet, x = net.get_active_subnet().eval(), torch.randn(2, 3, 32, 32)
    expected = subnet(x)
    fast = ofav2.accelerate(copy.deepcopy(subnet))
    assert torch.equal(pickle.loads(pickle.dumps(fast))(x), fast(x))
    for exported in (torch.export.export(subnet, (x,)).module(), torch.jit.trace(subnet, x)):
        torch.testing.assert_close(exported(x), expected)


@settings(max_examples=30)
@given(
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    stride=st.sampled_from([1, 2]),
    channels=st.sampled_from([(3, 5), (6, 8)]),
)
def test_elastic_convolutions_on_small_maps_are_torchs(height, width, stride, channels):
    generator = torch.Generator().manual_seed(height * 10 + width)
    conv = DynamicConv2d(6, 8, 3, stride).double()
    fast = copy.deepcopy(conv)
    use_fast_layers(fast)
    assert type(fast) is not type(conv)
    x = torch.randn(2, channels[0], height, width, generator=generator, dtype=torch.float64)
    results = []
    for each in (conv, fast):
        each.active_out_channel = channels[1]
        leaf = x.clone().requires_grad_()
        y = each(leaf)
        (y * torch.arange(y.numel(), dtype=torch.float64).view_as(y).sin()).sum().backward()
        results.append((y.detach(), leaf.grad, each.conv.weight.grad))
    for got, want in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
