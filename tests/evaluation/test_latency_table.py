"""Latency tables: the sum of measured parts, refusals, and the correction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ofav2_plugins as ofav2
from ofav2_plugins.errors import RunError, UserError
from ofav2_plugins.evaluation.encoding import Encoding
from ofav2_plugins.evaluation.latency_table import LatencyModel, check_machine, load_table, write_table
from ofav2_plugins.evaluation.profile import Profiler, fit_correction, machine

HERE = machine("a processor", "cpu")


@pytest.fixture(scope="module")
def profiled():
    net = ofav2.build_supernet("SE_B", n_classes=3, width_mult=0.25, ks_list=(3,), expand_ratio_list=(3,))
    encoding = Encoding(net.space)
    profiler = Profiler(net, encoding, (16,), "torch", torch.device("cpu"), 1, rounds=1)
    return net, encoding, profiler.measure(HERE)


def test_a_table_predicts_the_networks_and_says_how_well(profiled):
    net, encoding, table = profiled
    predicted = LatencyModel(net, encoding, table).predict(encoding.sample(20, np.random.default_rng(0)), 16)
    assert (predicted > 0).all()
    assert table.validation.networks == 50 and table.validation.kendall_tau > 0
    smallest, largest = (encoding.encode([arch]) for arch in (net.space.min_arch(), net.space.max_arch()))
    model = LatencyModel(net, encoding, table)
    assert model.sums(smallest, 16)[0] < model.sums(largest, 16)[0]
    assert model.sums(largest, 16)[1] == 1 + 20 + 1  # stem, blocks, head


def test_tables_that_do_not_fit_are_refused_with_the_remedy(profiled, tmp_path):
    net, encoding, table = profiled
    path = tmp_path / "table.json"
    write_table(path, table)
    assert load_table(path) == table
    check_machine(path, table, HERE)
    with pytest.raises(UserError, match=r"another machine: processor must be 'Z80', but got 'a processor'.*--allow"):
        check_machine(path, table, {**HERE, "processor": "Z80"})
    path.write_text(path.read_text().replace('"threads": 1', '"threads": 2'))
    with pytest.raises(RunError, match=r"digest does not match.*ofav2 profile"):
        load_table(path)
    path.write_text("{}")
    with pytest.raises(RunError, match="is not a latency table"):
        load_table(path)
    with pytest.raises(UserError, match=r"has the resolutions \[16\], but 24 is searched"):
        LatencyModel(net, encoding, table).prepare(24)
    other = ofav2.build_supernet("SE_B", n_classes=3, width_mult=0.5, ks_list=(3,), expand_ratio_list=(3,))
    with pytest.raises(UserError, match=r"measured on another supernet .*parts are missing.*ofav2 profile"):
        LatencyModel(other, Encoding(other.space), table).prepare(16)


def test_a_correction_recovers_the_overhead_of_timing_parts_alone():
    rng = np.random.default_rng(0)
    counts = rng.integers(10, 24, 40)
    alone = counts * rng.uniform(0.05, 0.06, 40) + 0.2
    found = fit_correction(alone, counts, 1.1 * alone - 0.02 * counts + 0.03)
    assert (found.factor, found.per_part, found.constant) == pytest.approx((1.1, -0.02, 0.03), abs=1e-3)
