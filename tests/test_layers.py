"""The fast depthwise convolution against torch's, values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ofav2_plugins.layers.depthwise import depthwise_conv2d, reference_layers, tiles_are_faster


@settings(max_examples=80)
@given(
    height=st.integers(1, 33),
    width=st.integers(1, 33),
    kernel=st.sampled_from([1, 3, 5, 7, 9, 11, 13]),
    stride=st.sampled_from([1, 2]),
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
        tiles_are_faster(torch.empty(1, 1, size, size), torch.empty(1, 1, kernel, kernel), stride)
        for size in range(1, 34) for kernel in (3, 5, 7) for stride in (1, 2)
    }  # fmt: skip
    assert chosen == {True, False}


def test_reference_layers_are_restored_when_an_error_passes():
    from ofav2_plugins.layers import depthwise

    with pytest.raises(RuntimeError, match="inside"):
        with reference_layers():
            assert depthwise._plain.get()
            raise RuntimeError("inside")
    assert not depthwise._plain.get()
