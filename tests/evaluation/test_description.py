"""`ofav2 plugins --describe`: dimensions and costs against values that were computed by hand."""

from __future__ import annotations

import itertools

import pytest

import ofav2_plugins as ofav2
from ofav2_plugins import registry
from ofav2_plugins.evaluation.description import describe_plugin
from ofav2_plugins.registry import NAMESPACES

WIDTHS = (16, 24, 40, 80, 112, 160)


def test_a_branch_has_the_cost_of_its_layers():
    [found] = describe_plugin("conv1x1", 1.0, 32)
    assert found.cost and found.plugin.namespace == registry.BRANCHES
    sides, params, macs = [16, 8, 4, 2, 2, 1], 0, 0  # of the maps after the stem and after each stage at 32 px
    for stage, (before, after) in enumerate(itertools.pairwise(WIDTHS), start=1):
        weights = before * after + 3 * after * after  # of four positions
        params += weights + 4 * 2 * after
        macs += weights * sides[stage] ** 2
    assert (found.cost.added_params, found.cost.added_macs) == (params, macs)
    [dim] = found.dimensions
    assert (dim.name, dim.length, dim.choices()) == ("level", 20, [["mbconv"], ["conv1x1"], ["mbconv", "conv1x1"]])


def test_exits_skips_and_backbones_have_theirs():
    [exits] = describe_plugin("ofav2.exits/every_stage", 0.25, 32)
    assert exits.cost and exits.cost.added_params > 0 and [dim.name for dim in exits.dimensions] == ["height"]
    [skip] = describe_plugin("dense", 0.25, 32)
    assert skip.cost and (skip.cost.added_params, skip.cost.added_macs, skip.dimensions) == (0, 0, ())
    [backbone] = describe_plugin("resnet50", 0.25, 32)
    assert [dim.name for dim in backbone.dimensions] == ["d", "e", "w"]


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_every_namespace_can_be_described(namespace):
    name = registry.names(namespace)[0]
    found = describe_plugin(f"{namespace}/{name}", 0.25, 32)
    assert [(d.plugin.namespace, d.plugin.name) for d in found] == [(namespace, name)]
    assert found[0].documentation.startswith(found[0].plugin.summary)
    assert found[0].to_dict()["settings"] == found[0].plugin.settings


def test_a_name_in_several_namespaces_is_described_for_each():
    assert len({found.plugin.namespace for found in describe_plugin("none", 0.25, 32)}) > 1


def test_wrong_arguments_are_named():
    with pytest.raises(ofav2.UserError, match=r"there is no plugin 'nope'; registered plugins: .*ghost"):
        describe_plugin("nope", 1.0, 32)
    with pytest.raises(ofav2.UserError, match=r"resolution must be in 1\.\.4096, but got 0"):
        describe_plugin("ghost", 1.0, 0)
    with pytest.raises(ofav2.UserError, match="width_mult must be a number above 0, but got 0"):
        describe_plugin("ghost", 0, 32)
