"""A branch and a dimension of a third party pass through encoding, cost, prediction and search."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

import ofav2_plugins as ofav2
from ofav2_plugins import registry
from ofav2_plugins.evaluation.cost import count_macs, count_memory
from ofav2_plugins.search.model import SearchModel
from ofav2_plugins.search.searching import Volume, search
from ofav2_plugins.search.settings import SearchSettings
from ofav2_plugins.search.targets import split_arch
from ofav2_plugins.space import HEIGHT, ElasticDim, Requirement

EXTRAS = Path(__file__).parents[2] / "examples" / "ofav2_extras"


@pytest.fixture
def net(monkeypatch):
    """The example package's branch, and its backbone with a dimension whose name this package does not know."""
    monkeypatch.syspath_prepend(str(EXTRAS))
    from ofav2_extras.avg_pool import AvgPool
    from ofav2_extras.plain_cnn import PlainCNN

    class Convs(PlainCNN):
        name = "convs"

        def dims(self):
            in_network = tuple((Requirement(HEIGHT, 0, stage + 1),) for stage in range(3))
            return (ElasticDim("convs", self.depth_list, 3, requires=in_network),)

        def requirement(self, stage, index):
            return Requirement("convs", stage, index + 1)

        def depths(self, arch):
            return list(arch["convs"])

        def dependencies(self, part):
            return (("convs", part[1]),) if part[0] == "depth" else ()

    spec = ofav2.SupernetSpec(backbone=Convs(), branches=(AvgPool(), "conv1x1"), skip="dense", exits="every_stage")
    return ofav2.build_supernet(spec, n_classes=3, width_mult=0.5)


def measured(net, model, n):
    """Samples with a made-up accuracy that depends on the third party's dimension and branch."""
    rng, found = np.random.default_rng(0), []
    for number, whole in enumerate(model.encoding.decode(model.encoding.sample(n, rng))):
        arch, resolution = split_arch(whole)
        pools = sum("avg_pool" in level for level in arch["level"])
        top1 = 30 + 8 * arch["height"] + 2 * sum(arch["convs"]) + 0.5 * pools + resolution / 4
        found.append(
            {"arch": arch, "resolution": resolution, "val_top1": top1, "half_top1": [top1, top1], "trunk": number}
        )
    return found


def test_it_is_encoded_costed_predicted_and_searched(net):
    limit = float(ofav2.cost(net, net.space.max_arch(), 24).macs) / 2
    model = SearchModel(net, net.space, (16, 24), SearchSettings(limits={"macs": limit}))
    assert {name for name, _ in model.encoding.genes} == {"convs", "level", "height", "resolution"}
    for seed in range(4):
        arch = net.space.sample(random.Random(seed))
        found = ofav2.cost(net, arch, 24)
        net.set_active_subnet(**arch)
        sub = net.get_active_subnet().eval()
        assert (found.macs, found.memory_mib) == (count_macs(sub, 24), count_memory(sub, 24))
        assert found.params == sum(parameter.numel() for parameter in sub.parameters())
    short = {**net.space.max_arch(), "height": 1}
    other = {**short, "convs": [3, 1, 1]}  # stages behind the exit do not distinguish architectures
    codes = model.encoding.encode([{**arch, "resolution": 16} for arch in (short, other)])
    assert np.array_equal(*model.encoding.canonical(codes))
    assert model.fit(measured(net, model, 120)).kendall_tau > 0.6
    volume = Volume(model.problem, model.largest_costs())
    found = search(registry.load(registry.SEARCHERS, "nsga2"), model.problem, 800, 0)
    baseline = search(registry.load(registry.SEARCHERS, "random"), model.problem, 800, 0)
    assert (found.metrics["macs"] <= limit).all()
    assert volume(found.metrics) > volume(baseline.metrics)
    best = model.encoding.decode(found.codes[[found.metrics["top1"].argmax()]])[0]
    net.set_active_subnet(**split_arch(best)[0])
