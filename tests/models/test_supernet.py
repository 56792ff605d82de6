"""The supernet against upstream, hand-written sums, published parameter counts, and its own static networks."""

from __future__ import annotations

import copy
import json
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.upstream_nets import OPTIONS, randomise, upstream_net
from torch import nn

import ofav2_plugins as ofav2

PARAMETERS = {  # width 1.0, 200 classes: supernet, maximal subnet at exit 5, maximal network with all exits
    "SE_B": (6_654_080, 6_639_960, 6_639_960),
    "SE_D": (6_654_080, 6_639_960, 6_639_960),
    "SE_P": (6_864_160, 6_850_040, 6_850_040),
    "SE_DP": (6_864_160, 6_850_040, 6_850_040),
    "EE_B": (8_208_032, 6_639_960, 8_193_912),
    "EE_D": (8_208_032, 6_639_960, 8_193_912),
    "EE_P": (8_418_112, 6_850_040, 8_403_992),
    "EE_DP": (8_418_112, 6_850_040, 8_403_992),
}

_nets: dict[str, ofav2.Supernet] = {}


def small_net(name: str) -> ofav2.Supernet:
    """A small supernet with random batch norms and kernel transforms, made once per name."""
    if name not in _nets:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            _nets[name] = ofav2.build_supernet(name, n_classes=7, width_mult=0.25)
            randomise(_nets[name])
    return _nets[name].eval()


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def plain_settings(net: ofav2.Supernet) -> dict:
    """The settings that switch every addition off."""
    off = {"level": ("mbconv",), "height": 5}
    return {name: value for name, value in off.items() if name in net.space}


def images(n: int = 2, size: int = 40) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def assert_equal_but_for_rounding(got: torch.Tensor, want: torch.Tensor) -> None:
    """Logits of sums in another order: if they cancel, the error is small relative to the largest of them."""
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5 * float(want.abs().max()))


def test_parameter_counts(variant):
    net = ofav2.build_supernet(variant, n_classes=200)
    assert (count(net), count(net.get_active_subnet()), count(net.get_multi_exit_subnet())) == PARAMETERS[variant]


def test_every_upstream_key_is_there_with_its_shape(variant):
    own = ofav2.build_supernet(variant, n_classes=10, width_mult=0.25).state_dict()
    for key, value in upstream_net().state_dict().items():
        assert own[key].shape == value.shape, key
    extra = set(own) - set(upstream_net().state_dict())
    assert all(".branches." in key or key.startswith("exits.") for key in extra)


@pytest.mark.parametrize("rename", [False, True], ids=["names of today", "old names"])
def test_without_additions_equals_upstream_bit_for_bit(variant, rename):
    theirs = upstream_net().eval()
    state = theirs.state_dict()
    if rename:
        state = {key.replace(".conv.", ".mobile_inverted_conv.", 1) if key.startswith("blocks.") else key: value
                 for key, value in state.items()}  # fmt: skip
        assert any(".mobile_inverted_conv." in key for key in state)
    ours = ofav2.build_supernet(variant, n_classes=10, width_mult=0.25).eval()
    result = ours.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    rng = random.Random(3)
    dense = "D" in variant
    for _ in range(2):
        ks, e = [rng.choice([3, 5, 7]) for _ in range(20)], [rng.choice([3, 4, 6]) for _ in range(20)]
        d = [2] * 5 if dense else [rng.choice([2, 3, 4]) for _ in range(5)]  # up to depth 2 dense changes nothing
        theirs.set_active_subnet(ks=ks, e=e, d=d)
        ours.set_active_subnet(ks=ks, e=e, d=d, **plain_settings(ours))
        with ofav2.reference_layers(), torch.no_grad():
            assert torch.equal(ours(images()), theirs(images()))


def test_fast_layers_equal_upstream_in_float64_with_gradients():
    theirs = upstream_net(dropout_rate=0).double().train()
    ours = ofav2.build_supernet("SE_B", n_classes=10, width_mult=0.25, dropout_rate=0).double().train()
    ours.load_state_dict(theirs.state_dict())
    for size in (24, 33, 64):
        for net in (theirs, ours):
            net.zero_grad()
            net.set_active_subnet(ks=[3, 5, 7, 5] * 5, e=4, d=3)
            net(images(4, size).double()).square().sum().backward()
        largest = max(p.grad.norm() for p in theirs.parameters() if p.grad is not None)
        for (name, a), b in zip(theirs.named_parameters(), ours.parameters(), strict=True):
            if a.grad is None:
                assert b.grad is None, name
            else:
                assert (a.grad - b.grad).norm() <= 1e-8 * largest, name


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_dense_rule_is_the_sum_over_upstreams_blocks(depth):
    theirs = upstream_net().eval()
    theirs.set_active_subnet(ks=5, e=4, d=depth)
    ours = ofav2.build_supernet("SE_D", n_classes=10, width_mult=0.25).eval()
    ours.load_state_dict(theirs.state_dict())
    ours.set_active_subnet(ks=5, e=4, d=depth)
    with torch.no_grad(), ofav2.reference_layers():
        x = theirs.blocks[0](theirs.first_conv(images()))
        for group in theirs.block_group_info:
            block = [theirs.blocks[i] for i in group]
            y1 = block[0](x)
            y2 = block[1](y1)
            x = y2
            if depth >= 3:
                y3 = block[2](y2)
                x = y3 + y1
            if depth == 4:
                y4 = block[3](y3 + y1)
                x = y4 + y1 + y2
        x = theirs.final_expand_layer(x).mean(3, keepdim=True).mean(2, keepdim=True)
        expected = theirs.classifier(theirs.feature_mix_layer(x).flatten(1))
        torch.testing.assert_close(ours(images()), expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=3)
@given(seed=st.integers(0, 10**6))
@pytest.mark.parametrize("size", [17, 32])
def test_static_subnet_equals_the_active_supernet(variant, size, seed):
    net = small_net(variant)
    arch = net.sample_active_subnet(rng=random.Random(seed))
    assert json.loads(json.dumps(arch)) == arch == net.arch
    static, multi = net.get_active_subnet(), net.get_multi_exit_subnet()
    x = images(2, size)
    with torch.no_grad():
        expected = net.forward_exits(x)
        assert_equal_but_for_rounding(static(x), net(x))
        assert len(multi(x)) == len(expected) == (arch["height"] if "height" in arch else 1)
        for got, want in zip(multi(x), expected, strict=True):
            assert_equal_but_for_rounding(got, want)


def test_static_subnet_equals_the_active_supernet_in_double_precision(variant):
    net = copy.deepcopy(small_net(variant)).double()
    net.sample_active_subnet(rng=random.Random(7))
    x = images(2, 17).double()
    with torch.no_grad():
        expected = net(x)
        torch.testing.assert_close(
            net.get_active_subnet()(x), expected, rtol=0, atol=1e-12 * float(expected.abs().max())
        )
    assert torch.get_default_dtype() == torch.float32


@settings(max_examples=2)
@given(seed=st.integers(0, 10**6))
def test_config_round_trip_through_json(variant, seed):
    net = small_net(variant)
    net.sample_active_subnet(rng=random.Random(seed))
    for static in (net.get_active_subnet(), net.get_multi_exit_subnet()):
        again = ofav2.build_subnet(json.loads(json.dumps(static.config))).eval()
        again.load_state_dict(static.state_dict())
        assert again.config == static.config
        with torch.no_grad():
            torch.testing.assert_close(again(images()), static(images()), rtol=0, atol=0)
    assert net.get_active_net_config() == net.get_active_subnet().config


@settings(max_examples=2)
@given(seed=st.integers(0, 10**6))
def test_gradients_reach_exactly_the_active_parameters(variant, seed):
    net = small_net(variant).train()
    arch = net.sample_active_subnet(rng=random.Random(seed))
    net.zero_grad()
    net(images(4, 32)).square().sum().backward()
    for key, parameter in net.named_parameters():
        assert (parameter.grad is not None) == is_active(key, arch), key


def is_active(key: str, arch: dict) -> bool:
    """Whether an architecture uses a parameter, derived from its name by the spec's rules."""
    height = arch.get("height", 5)
    head, *rest = key.split(".")
    if head == "exits":
        return int(rest[0]) == height
    if head in ("final_expand_layer", "feature_mix_layer", "classifier"):
        return height == 5
    if head == "first_conv" or rest[0] == "0":
        return True
    position = int(rest[0]) - 1
    stage, index = divmod(position, 4)
    if stage >= height or index >= arch["d"][stage]:
        return False
    level = arch["level"][position] if "level" in arch else ["mbconv"]
    if rest[1] == "branches":
        return rest[2] in level
    if "mbconv" not in level:
        return False
    if key.endswith("7to5_matrix"):
        return arch["ks"][position] < 7
    if key.endswith("5to3_matrix"):
        return arch["ks"][position] < 5
    return True


def test_exits_of_a_stage_have_six_and_eight_times_its_width():
    net = ofav2.build_supernet("EE_B", n_classes=10)
    widths = [(head.final_expand_layer.out_channels, head.feature_mix_layer.out_channels)
              for head in net.exits.values()]  # fmt: skip
    assert widths == [(144, 192), (240, 320), (480, 640), (672, 896)]


@pytest.mark.parametrize("width_mult", [0.25, 0.5, 1.0, 1.2])
def test_width_multipliers_keep_upstreams_tail(width_mult):
    ours = ofav2.build_supernet("EE_DP", n_classes=10, width_mult=width_mult)
    theirs = upstream_net(width_mult=width_mult)
    assert not ours.load_state_dict(theirs.state_dict(), strict=False).unexpected_keys


def test_channel_sorting_keeps_the_maximal_networks_output():
    net = small_net("EE_DP")
    net.set_max_net()
    with torch.no_grad():
        before = net(images())
        net.re_organize_middle_weights(expand_ratio_stage=0)
        torch.testing.assert_close(net(images()), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ks": 4}, ["ks[0]", "[3, 5, 7]", "but got 4"]),
        ({"ks": [3] * 19}, ["ks", "20 entries", "but got 19"]),
        ({"e": [6] * 19 + [5]}, ["e[19]", "[3, 4, 6]", "but got 5"]),
        ({"d": [4, 4, 4, 4, 1]}, ["d[4]", "[2, 3, 4]", "but got 1"]),
        ({"height": 6}, ["height", "[1, 2, 3, 4, 5]", "but got 6"]),
        ({"height": [3]}, ["height", "but got [3]"]),
        ({"level": []}, ["level", "but got"]),
        ({"level": ["mbconv", "mbconv"]}, ["level[0]", "mbconv", "conv1x1", "but got"]),
        ({"level": [["mbconv"]] * 19 + [["nothing"]]}, ["level[19]", "but got ['nothing']"]),
        ({"width": 3}, ["'width'", "ks"]),
    ],
)
def test_a_wrong_arch_is_named_and_changes_nothing(settings, words):
    net = small_net("EE_DP")
    net.set_max_net()
    before = net.arch
    with pytest.raises(ValueError) as caught:
        net.set_active_subnet(**{"ks": 3, **settings})
    for word in words:
        assert word in str(caught.value)
    assert net.arch == before
    assert net.blocks[1].conv.active_kernel_size == 7


def test_scalars_broadcast_and_omitted_dimensions_stay():
    net = small_net("EE_P")
    net.set_max_net()
    net.set_active_subnet(ks=3, level=("mbconv",), height=3)
    net.set_active_subnet(d=2)
    assert net.arch == {"ks": [3] * 20, "e": [6] * 20, "d": [2] * 5, "level": [["mbconv"]] * 20, "height": 3}


def test_nothing_but_building_and_dropout_touches_torchs_generator():
    net = small_net("EE_DP")
    state = torch.get_rng_state()
    net.sample_active_subnet(rng=random.Random(0))
    net.set_active_subnet(ks=5, d=3, height=4)
    net.get_active_subnet()
    net.get_multi_exit_subnet(preserve_weight=False)
    net.get_active_net_config()
    net.set_dropout(0.3)
    net.set_dropout(0.1)
    net.re_organize_middle_weights()
    net.set_max_net()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("rates", [(0.3,), (0,), (0, 0.3), (0.3, 0.2, 0)])
def test_dropout_is_as_if_built_with_it(rates):
    net = ofav2.build_supernet("EE_B", n_classes=7, width_mult=0.25, dropout_rate=0.1).train()
    parameters = list(net.named_parameters())
    for rate in rates:
        net.set_dropout(rate)
    built = ofav2.build_supernet("EE_B", n_classes=7, width_mult=0.25, dropout_rate=rates[-1]).train()
    assert str(net) == str(built)  # the same modules in the same order
    assert all(module.training for module in net.modules())
    for (name, old), (same, new) in zip(parameters, net.named_parameters(), strict=True):
        assert name == same and old is new
    config = net.get_multi_exit_subnet().config
    assert config == built.get_multi_exit_subnet().config
    assert [head["head"]["classifier"]["dropout_rate"] for head in config["exits"].values()] == [rates[-1]] * 5
    built.load_state_dict(net.state_dict())
    with torch.random.fork_rng():
        outputs = [torch.manual_seed(0) and each(images()) for each in (net, built)]
    assert torch.equal(*outputs)


@pytest.mark.parametrize("rate", [1, -0.1, float("nan"), None, True])
def test_an_invalid_dropout_rate_is_rejected(rate):
    with pytest.raises(ofav2.UserError, match=rf"dropout_rate must be a number in \[0, 1\), but got {rate}"):
        small_net("SE_B").set_dropout(rate)


@pytest.mark.parametrize("rng", [0, 7, "seed", random, torch.Generator()])
def test_an_invalid_generator_is_rejected_and_changes_nothing(rng):
    net = small_net("SE_B")
    net.set_max_net()
    state = random.getstate()
    with pytest.raises(ValueError, match=r"rng must be a random\.Random or None, but got "):
        net.sample_active_subnet(rng=rng)
    assert net.arch == net.space.max_arch() and random.getstate() == state


def test_without_a_generator_pythons_own_is_drawn_from():
    net, state = small_net("SE_B"), random.getstate()
    drawn = net.sample_active_subnet()
    random.setstate(state)
    assert net.sample_active_subnet() == drawn == net.arch
    assert random.getstate() != state


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ofav2.UserError, match=r"SE_B.*but got 'SE_X'"):
        ofav2.build_supernet("SE_X")
    with pytest.raises(ofav2.PluginError, match=r"unknown plugin 'nope' in ofav2.branches.*conv1x1, .*transform"):
        ofav2.build_supernet(ofav2.SupernetSpec(branches=("nope",)))
    with pytest.raises(ofav2.UserError, match="distinct"):
        ofav2.SupernetSpec(branches=("conv1x1", "conv1x1"))
    with pytest.raises(ofav2.UserError, match="config"):
        ofav2.build_subnet({"name": "MobileNetV3"})


def test_strict_loading_names_missing_keys():
    net = ofav2.build_supernet("EE_B", n_classes=10, width_mult=0.25)
    with pytest.raises(RuntimeError, match=r"exits\.1"):
        net.load_state_dict(upstream_net().state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        net.load_state_dict({})


def test_upstreams_constraints_restrict_sampling():
    net = small_net("SE_B")
    net.set_constraint([2], "depth")
    assert net.sample_active_subnet(rng=random.Random(0))["d"] == [2] * 5
    net.clear_constraint()
    drawn = {d for seed in range(20) for d in net.sample_active_subnet(rng=random.Random(seed))["d"]}
    assert drawn == set(OPTIONS["depth_list"])


def test_supernets_that_share_a_dimension_draw_the_same_values_for_it():
    small, large = small_net("SE_B").space.sample(random.Random(9)), small_net("EE_DP").space.sample(random.Random(9))
    assert {name: large[name] for name in small} == small


def test_with_zero_last_gamma_blocks_start_as_their_shortcuts(variant):
    net = ofav2.build_supernet(variant, n_classes=10, width_mult=0.25)
    net.zero_last_gamma()
    net.set_active_subnet(level=("mbconv",)) if "level" in net.space else None
    with_shortcut = [block for block in net.blocks if block.shortcut is not None and block.conv.stride == 1]
    assert len(with_shortcut) == 16  # the first block, and all but the first of each stage
    for block in with_shortcut:
        x = torch.randn(2, block.conv.in_channels, 8, 8)
        assert torch.equal(block.eval()(x), x)
