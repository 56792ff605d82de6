"""Every registered backbone against upstream's own network: keys, outputs, static subnets, sampled spaces."""

from __future__ import annotations

import json
import random
import re

import pytest
import torch
from support.backbones import WIDTH, upstream_of

import ofav2_plugins as ofav2
from ofav2_plugins import registry
from ofav2_plugins.evaluation.cost import cost, count_macs
from ofav2_plugins.search.charts import _ranks
from ofav2_plugins.space import SearchSpace
from ofav2_plugins.training.plan import ordered_phases

BACKBONES = registry.names(registry.BACKBONES)
PHASES = ["full", "kernel", "level", "height", "depth", "width"]


def build(name: str, variant: str = "EE_DP") -> ofav2.Supernet:
    return ofav2.build_supernet(variant, 5, backbone=name, width_mult=WIDTH, dropout_rate=0)


def images(size: int = 40) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def off(net: ofav2.Supernet) -> dict:
    """The settings that switch every addition off."""
    plain = {"level": (net.backbone.main_block,), "height": net.n_stages}
    return {name: value for name, value in plain.items() if name in net.space}


@pytest.mark.parametrize("name", BACKBONES)
def test_every_upstream_key_is_there_with_its_shape(name, variant):
    own, theirs = build(name, variant).state_dict(), upstream_of(name).state_dict()
    assert {key: value.shape for key, value in theirs.items()} == {key: own[key].shape for key in theirs}
    assert all(".branches." in key or key.startswith("exits.") for key in set(own) - set(theirs))


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("variant", ["SE_B", "EE_P"])
def test_without_additions_outputs_are_upstreams(name, variant):
    theirs, ours = upstream_of(name), build(name, variant).eval()
    assert not ours.load_state_dict(theirs.state_dict(), strict=False).unexpected_keys
    random.seed(0)
    for _ in range(4):
        arch = theirs.sample_active_subnet()
        ours.set_active_subnet(**arch, **off(ours))
        with torch.no_grad():
            expected = theirs(images())
            with ofav2.reference_layers():
                assert torch.equal(ours(images()), expected)
            static = ours.get_active_subnet()(images())
            assert torch.equal(static, theirs.get_active_subnet().eval()(images()))


def old_layout(key: str) -> str:
    """A key as in upstream's official checkpoints of older versions, which its own classes still load."""
    key = re.sub(r"^(blocks\.\d+)\.conv\.", r"\1.mobile_inverted_conv.", key)
    for new, old in ((".bn.bn.", ".bn."), (".conv.conv.weight", ".conv.weight"), (".linear.linear.", ".linear.")):
        key = key.replace(new, old)
    return key


@pytest.mark.parametrize("name", [name for name in BACKBONES if "ofa" in upstream_of(name).__module__.split(".")])
def test_official_checkpoints_with_old_names_load_as_in_upstreams_own_class(name):
    theirs, ours = upstream_of(name), build(name, "SE_B").eval()
    old = {old_layout(key): value for key, value in theirs.state_dict().items()}
    assert set(old) != set(theirs.state_dict())
    again = upstream_of(name, seed=1)
    again.load_state_dict(old)
    ours.load_state_dict(old)
    for net in (theirs, again, ours):
        net.set_max_net()
    with torch.no_grad(), ofav2.reference_layers():
        expected = theirs(images())
        assert torch.equal(again(images()), expected)
        assert torch.equal(ours(images()), expected)
    build(name, "EE_DP").load_state_dict(old, strict=False)


@pytest.mark.parametrize("name", BACKBONES)
def test_fast_layers_equal_upstream_in_float64_with_gradients(name):
    theirs, ours = upstream_of(name).double().train(), build(name, "SE_B").double().train()
    ours.load_state_dict(theirs.state_dict())
    random.seed(1)
    arch = theirs.sample_active_subnet()
    ours.set_active_subnet(**arch)
    for net in (theirs, ours):
        net(images().double()).square().sum().backward()
    largest = max(p.grad.norm() for p in theirs.parameters() if p.grad is not None)
    for (key, a), b in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), key
        assert a.grad is None or (a.grad - b.grad).norm() <= 1e-8 * largest, key


@pytest.mark.parametrize("name", BACKBONES)
def test_sampled_values_are_upstreams_entry_by_entry(name):
    theirs, ours = upstream_of(name), build(name, "SE_B")
    random.seed(2)
    drawn = [
        [theirs.sample_active_subnet() for _ in range(60)],
        [ours.space.sample(random.Random(i)) for i in range(60)],
    ]
    entries = [
        {(dim, i): {arch[dim][i] for arch in archs} for dim, values in archs[0].items() for i in range(len(values))}
        for archs in drawn
    ]
    assert entries[0] == entries[1]


@pytest.mark.parametrize("name", BACKBONES)
def test_phases_are_those_of_the_declared_dimensions(name):
    net = build(name)
    kernel = ["kernel"] if "ks" in net.space else []
    assert [phase.name for phase in ordered_phases(PHASES, net.space)] == [
        "full", *kernel, "level", "height", "depth", "width"
    ]  # fmt: skip
    net.set_max_net()
    with torch.no_grad():
        net.eval()
        before = net(images())
        net.re_organize_middle_weights(expand_ratio_stage=0)
        torch.testing.assert_close(net(images()), before, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_cost_formula_is_the_cost_of_the_built_network(name):
    net = build(name, "SE_B")
    for seed in range(3):
        arch = net.sample_active_subnet(rng=random.Random(seed))
        static = net.get_active_subnet().eval()
        found = cost(net, json.loads(json.dumps(arch)), 32)
        assert found.macs == count_macs(static, 32)
        assert found.params == sum(p.numel() for p in static.parameters())


def test_options_of_another_backbone_are_refused():
    with pytest.raises(ofav2.UserError, match=r"backbone 'resnet50' are .*width_mult_list, but got 'ks_list'"):
        ofav2.build_supernet("SE_B", 2, backbone="resnet50", ks_list=[3])


@pytest.mark.parametrize("name", BACKBONES)
def test_every_branch_works_at_every_width(name):
    branches = registry.names(registry.BRANCHES)
    net = ofav2.build_supernet(
        ofav2.SupernetSpec(branches=branches, exits="every_stage"), 5, backbone=name, width_mult=WIDTH, dropout_rate=0
    ).double()
    for seed in range(3):
        net.train().sample_active_subnet(rng=random.Random(seed))
        net.zero_grad()
        net(images(16).double()).square().sum().backward()
        net.eval()
        with torch.no_grad():
            expected = net(images(16).double())
            torch.testing.assert_close(net.get_active_subnet()(images(16).double()), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_page_of_a_search_can_draw_every_architecture(name):
    space = SearchSpace(registry.load(registry.BACKBONES, name).dims())
    for dim, described in space.to_dict().items():
        smallest, largest = (_ranks(arch[dim], described) for arch in (space.min_arch(), space.max_arch()))
        assert all(0 <= low <= high for low, high in zip(smallest, largest, strict=True))
