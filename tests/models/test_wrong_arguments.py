"""Wrong arguments of a supernet, a spec or a subnet's config: one line names the wrong value and the allowed ones."""

from __future__ import annotations

import copy
import functools
import math

import numpy as np
import pytest
from torch import nn

import ofav2_plugins as ofav2
from ofav2_plugins.branches.conv1x1 import Conv1x1
from ofav2_plugins.exits.every_stage import EveryStage
from ofav2_plugins.models.spec import resolve_spec


def assert_refused(call, *words: str) -> None:
    """`call` raises a UserError of one line that has all the words."""
    with pytest.raises(ofav2.UserError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


@pytest.mark.parametrize(
    "values", [(), 7, "3", None, (0, 6), (-1, 3), (3, 3), (3.0, 5), (True, 3), ("3",), (math.nan,)]
)
@pytest.mark.parametrize("name", ["ks_list", "expand_ratio_list", "depth_list"])
def test_lists_that_are_none_of_positive_integers(name, values):
    assert_refused(lambda: ofav2.build_supernet("SE_B", **{name: values}), name, f"but got {values!r}")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"ks_list": (3, 4)}, "ks_list"),
        ({"n_classes": 0}, "n_classes"),
        ({"n_classes": "10"}, "n_classes"),
        ({"n_classes": 10.5}, "n_classes"),
        ({"n_classes": True}, "n_classes"),
        ({"width_mult": 0}, "width_mult"),
        ({"width_mult": math.inf}, "width_mult"),
        ({"width_mult": math.nan}, "width_mult"),
        ({"width_mult": "1"}, "width_mult"),
        ({"dropout_rate": 1}, "dropout_rate"),
        ({"dropout_rate": None}, "dropout_rate"),
        ({"bn_param": (0.1,)}, "bn_param"),
    ],
)
def test_numbers_that_are_none_or_out_of_range(options, named):
    [given] = options.values()
    assert_refused(lambda: ofav2.build_supernet("SE_B", **options), named, f"but got {given!r}")


@pytest.mark.parametrize("option", ["n_clases", "spec"])
def test_an_unknown_option_lists_the_known_ones(option):
    known = ("n_classes", "width_mult", "ks_list", "depth_list", "bn_param")
    assert_refused(lambda: ofav2.build_supernet("SE_B", **{option: 3}), *known, f"but got {option!r}")


def test_lists_in_any_order_and_numpys_integers_are_right():
    net = ofav2.build_supernet("SE_B", 2, width_mult=0.25, ks_list=[5, 3], depth_list=range(1, 3),
                               expand_ratio_list=(np.int64(3), 1))  # fmt: skip
    values = {name: net.space[name].values for name in ("ks", "e", "d")}
    assert values == {"ks": (3, 5), "e": (1, 3), "d": (1, 2)}
    assert net.arch == {"ks": [5] * 10, "e": [3] * 10, "d": [2] * 5}


@pytest.mark.parametrize("branches", ["conv1x1", None, 3, ("conv1x1", 3), ["conv1x1", "conv1x1"]])
def test_branches_must_be_a_list_of_names(branches):
    assert_refused(lambda: ofav2.SupernetSpec(branches=branches), "branches", f"but got {branches!r}")


def test_a_branch_named_like_the_backbones_own_block_is_refused():
    spec = ofav2.SupernetSpec(branches=["mbconv"])
    assert_refused(lambda: ofav2.build_supernet(spec, 2), "unknown plugin 'mbconv'")


@pytest.mark.parametrize("part", ["backbone", "skip", "exits"])
def test_parts_of_a_spec_must_be_names(part):
    assert_refused(lambda: ofav2.SupernetSpec(**{part: None}), part, "but got None")


@pytest.mark.parametrize(
    "supernet", ["SE_X", "", "=", "skip", "skip=", "wires=dense", "skip=dense,", None, 3, ["SE_B"]]
)
def test_a_supernet_must_be_a_name_or_a_composition(supernet):
    assert_refused(lambda: resolve_spec(supernet), "SE_B", "branches=", f"but got {supernet!r}")


@pytest.mark.parametrize("twice", ["skip=dense,skip=residual", "branches=conv1x1,branches=transform"])
def test_a_composition_with_a_part_twice(twice):
    assert_refused(lambda: resolve_spec(twice), "at most once", f"but got {twice!r}")


def test_compositions_are_read_as_they_are_written():
    assert resolve_spec("branches=conv1x1+transform,exits=every_stage") == ofav2.VARIANTS["EE_P"]
    assert resolve_spec("skip=dense") == ofav2.VARIANTS["SE_D"] == ofav2.SupernetSpec(branches=[], skip="dense")


def boom(*args):
    raise RuntimeError("boom")


class Booming(nn.Identity):
    config = {}
    forward = boom


class Rounding(nn.AvgPool2d):
    config = {}


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (boom, ["fails in build: RuntimeError: boom"]),
        (lambda *args: Booming(), ["fails in forward: RuntimeError: boom"]),
        (lambda *args: None, ["`config`", "but got NoneType"]),
        (lambda *args: nn.Identity(), ["`config`", "but got Identity"]),
        (lambda *args: Rounding(2), ["[2, 16, 7, 7] at stride 2 to [2, 24, 4, 4]", "but got [2, 16, 3, 3]"]),
    ],
)
def test_a_branch_that_breaks_its_contract_is_named(monkeypatch, build, words):
    monkeypatch.setattr(Conv1x1, "build", lambda self, *args: build(*args))
    with pytest.raises(ofav2.PluginError):
        ofav2.build_supernet("SE_P", 2)
    assert_refused(lambda: ofav2.build_supernet("SE_P", 2), "plugin 'conv1x1' of ofav2.branches", *words)


@pytest.mark.parametrize(
    ("heads", "words"),
    [
        (boom, ["fails in heads: RuntimeError: boom"]),
        (lambda *args: {}, ["ModuleDict", "but got dict"]),
        (lambda *args: nn.ModuleDict({"5": nn.Identity()}), ["1..4", "but got ['5']"]),
        (lambda *args: nn.ModuleDict({"2": nn.Identity(), "1": nn.Identity()}), ["ascending", "but got ['2', '1']"]),
    ],
)
def test_exits_that_break_their_contract_are_named(monkeypatch, heads, words):
    monkeypatch.setattr(EveryStage, "heads", lambda self, *args: heads(*args))
    with pytest.raises(ofav2.PluginError):
        ofav2.build_supernet("EE_B", 2)
    assert_refused(lambda: ofav2.build_supernet("EE_B", 2), "plugin 'every_stage' of ofav2.exits", *words)


@functools.cache
def config_of_a_subnet() -> dict:
    net = ofav2.build_supernet("EE_DP", 3, width_mult=0.25)
    net.set_active_subnet(height=2, d=2)
    return net.get_multi_exit_subnet().config


REMOVE = object()


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("name", "MobileNetV3", ["name must be 'Subnet'", "but got 'MobileNetV3'"]),
        ("name", REMOVE, ["name is missing"]),
        ("bn", None, ["bn must be", "momentum and eps", "but got None"]),
        ("bn", {"momentum": 0.1}, ["bn must be", "but got {'momentum': 0.1}"]),
        ("bn.eps", "small", ["bn must be", "'small'"]),
        ("bn.rate", 1, ["bn must be", "'rate': 1"]),
        ("stem", None, ["stem must be", "but got None"]),
        ("stem.first_conv", {}, ["stem cannot be built", "'name'"]),
        ("stem", [], ["stem must be", "but got []"]),
        ("stem.first_block.conv.kernel", 3, ["stem cannot be built", "'kernel'"]),
        ("stages", "both", ["stages must be", "but got 'both'"]),
        ("stages", [], ["stages must be", "but got []"]),
        ("stages.1", [], ["stages[1] must be", "but got []"]),
        ("stages.1", "ab", ["stages[1] must be", "but got 'ab'"]),
        ("stages.1.0", {}, ["stages[1][0] must be", "one or more parts", "but got {}"]),
        ("stages.1.0", None, ["stages[1][0] must be", "but got None"]),
        ("stages.1.0.mbconv", None, ["stages[1][0].mbconv must be", "but got None"]),
        ("stages.1.0.mbconv.name", "Block", ["stages[1][0].mbconv cannot be built", "'Block'"]),
        ("stages.1.0.conv1x1.size", 3, ["stages[1][0].conv1x1 cannot be built", "'size'"]),
        ("stages.1.0.conv1x1.in_channels", "x", ["stages[1][0].conv1x1 cannot be built"]),
        ("stages.1.0.nothing", {}, ["stages[1][0] must be", "mbconv, conv1x1, transform", "but got 'nothing'"]),
        ("backbone", "nothing", ["unknown plugin 'nothing' in ofav2.backbones"]),
        ("branches", "conv1x1", ["branches must be", "but got 'conv1x1'"]),
        ("skip", ["dense"], ["skip must be", "but got ['dense']"]),
        ("skip", "denser", ["unknown plugin 'denser' in ofav2.skips"]),
        ("exits", None, ["exits must be", "'1'..'2'", "but got None"]),
        ("exits", {"x": 1}, ["exits must be", "but got {'x': 1}"]),
        ("exits.3", {}, ["exits must be", "'1'..'2'"]),
        ("exits.2", REMOVE, ["exits must be", "the last one included"]),
        ("exits.1", 1, ["exits.1 must be", "but got 1"]),
        ("exits.1.plugin", None, ["exits.1 must be", "'plugin': None"]),
        ("exits.1.plugin", "nowhere", ["unknown plugin 'nowhere' in ofav2.exits"]),
        ("exits.1.head", None, ["exits.1.head must be", "but got None"]),
        ("exits.1.head", {}, ["exits.1.head must be", "but got {}"]),
        ("multi_exit", "yes", ["multi_exit must be", "but got 'yes'"]),
    ],
)
def test_a_wrong_entry_of_a_subnets_config_is_named(path, value, words):
    config = copy.deepcopy(config_of_a_subnet())
    *way, last = path.split(".")
    entry = functools.reduce(lambda at, key: at[int(key) if isinstance(at, list) else key], way, config)
    if value is REMOVE:
        del entry[last]
    else:
        entry[int(last) if isinstance(entry, list) else last] = value
    before = copy.deepcopy(config)
    assert_refused(lambda: ofav2.build_subnet(config), *words)
    assert config == before


@pytest.mark.parametrize("config", [None, "x", 3, [], {}])
def test_an_invalid_config_of_a_subnet_is_named(config):
    assert_refused(lambda: ofav2.build_subnet(config), "config", "`subnet.config`")


def test_building_leaves_the_config_as_it_was():
    config = copy.deepcopy(config_of_a_subnet())
    assert ofav2.build_subnet(config).config == config == config_of_a_subnet()
