"""The cost formula against static networks: torch's FLOP counter, parameters, and liveness on an exported graph."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
import torch
from torch import nn

import ofav2_plugins as ofav2
from ofav2_plugins import registry
from ofav2_plugins.branches.base import Branch
from ofav2_plugins.evaluation.cost import count_macs, count_memory
from ofav2_plugins.evaluation.encoding import Encoding
from ofav2_plugins.models.layers.depthwise import reference_layers

ELEMENTWISE = ("add.", "mul.", "div.", "relu", "hardtanh", "clamp", "batch_norm")
VIEWS = ("view.", "flatten", "dropout", "alias", "clone")


def graph_peak_mib(net: nn.Module, resolution: int) -> float:
    """Peak memory by the users of each node of the exported graph: nothing is shared with the recorder."""
    with reference_layers():
        graph = torch.export.export(net, (torch.zeros(1, 3, resolution, resolution),), strict=False).graph
    root: dict = {}
    for node in graph.nodes:
        own = node.op == "placeholder" and "x" in node.name and node.meta["val"].shape[1:2] == (3,)
        aliases = node.op == "call_function" and (any(v in str(node.target) for v in VIEWS) or "_." in str(node.target))
        root[node] = root.get(node.args[0], node.args[0]) if aliases else node
        if node.op == "placeholder" and not own:
            root[node] = None
    nodes = [node for node in graph.nodes if node.op in ("placeholder", "call_function") and root[node] is not None]
    last: dict = {}
    for i, node in enumerate(graph.nodes):
        for used in node.all_input_nodes:
            if root.get(used) is not None:
                last[root[used]] = i
    order = {node: i for i, node in enumerate(graph.nodes)}
    size = {node: node.meta["val"].numel() * 4 for node in nodes if root[node] is node}
    peak = 0
    for node in nodes:
        i = order[node]
        live = sum(bytes_ for n, bytes_ in size.items() if order[n] <= i <= last.get(n, -1) or n is root[node])
        if root[node] is node and any(word in str(node.target) for word in ELEMENTWISE):
            dying = [root[used] for used in node.all_input_nodes if root.get(used) is not None]
            if any(last[n] == i and size[n] == size[node] for n in dying):
                live -= size[node]
        peak = max(peak, live)
    return peak / 2**20


def check_formula(net, resolutions) -> None:
    """The formula against the built network, for one random architecture per resolution."""
    for seed, resolution in enumerate(resolutions):
        arch, before = net.space.sample(random.Random(seed)), net.arch
        found = ofav2.cost(net, arch, resolution)
        assert net.arch == before
        net.set_active_subnet(**arch)
        sub = net.get_active_subnet().eval()
        assert found.macs == count_macs(sub, resolution)
        assert found.params == sum(parameter.numel() for parameter in sub.parameters())
        assert found.memory_mib == count_memory(sub, resolution)
        net.set_active_subnet(**before)


def test_the_formula_is_the_cost_of_the_built_network(variant):
    check_formula(ofav2.build_supernet(variant, n_classes=7, width_mult=0.25), (20, 32, 20))


@pytest.mark.parametrize("backbone", [name for name in registry.names(registry.BACKBONES) if name != "mobilenet_v3"])
def test_the_formula_holds_for_every_backbone(backbone):
    check_formula(ofav2.build_supernet("EE_DP", backbone=backbone, n_classes=7, width_mult=0.25), (24, 24))


@pytest.mark.parametrize("name", ["SE_B", "EE_DP"])
def test_peak_memory_is_that_of_the_exported_graph(name):
    net = ofav2.build_supernet(name, n_classes=7, width_mult=0.25)
    arch = net.sample_active_subnet(random.Random(4))
    assert ofav2.cost(net, arch, 32).memory_mib == pytest.approx(graph_peak_mib(net.get_active_subnet().eval(), 32))


def test_many_at_once_are_as_one_by_one_and_fast():
    net = ofav2.build_supernet("EE_DP", n_classes=7, width_mult=0.25)
    codes = Encoding(net.space).sample(2000, np.random.default_rng(0))
    archs = Encoding(net.space).decode(codes[:5])
    single = [ofav2.cost(net, arch, 24) for arch in archs]  # builds the tables
    started = time.process_time()
    many = ofav2.costs(net, codes, 24)
    assert (time.process_time() - started) / len(codes) < 0.2e-3
    for i, found in enumerate(single):
        assert (found.macs, found.params, found.memory_mib) == tuple(
            many[n][i] for n in ("macs", "params", "memory_mib")
        )
    with pytest.raises(ValueError, match=r"ks\[0\] must be one of \[3, 5, 7\], but got 9"):
        ofav2.cost(net, {"ks": 9}, 24)


class Attention(Branch):
    """A branch of a third party with a matrix product that no convolution counter would find."""

    name = "attention"

    def build(self, in_channels, out_channels, stride, act_func):
        class Module(nn.Module):
            def __init__(self):
                super().__init__()
                self.config = {"in_channels": in_channels, "out_channels": out_channels, "stride": stride}
                self.pool = nn.AvgPool2d(stride, ceil_mode=True)
                self.value = nn.Conv2d(in_channels, out_channels, 1)

            def forward(self, x):
                y = self.value(self.pool(x))
                flat = y.flatten(2)
                weights = torch.bmm(flat.transpose(1, 2), flat).softmax(-1)
                return torch.bmm(flat, weights).view_as(y)

        return Module()


def test_a_branch_of_a_third_party_counts_by_what_it_is_built_of():
    net = ofav2.build_supernet(ofav2.SupernetSpec(branches=(Attention(),), skip="dense"), n_classes=7, width_mult=0.25)
    for seed in range(3):
        arch = net.sample_active_subnet(random.Random(seed))
        sub = net.get_active_subnet().eval()
        found = ofav2.cost(net, arch, 32)
        assert (found.macs, found.memory_mib) == (count_macs(sub, 32), count_memory(sub, 32))
