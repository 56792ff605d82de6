"""A search by the accuracy and the expected MACs of networks whose confident images leave at an early exit."""

from __future__ import annotations

import json

import pytest
from support.commands import ofav2
from support.study_samples import RECIPE

import ofav2_plugins as ofav2_api

SMALL = ["--objectives", "expected_top1,expected_macs", "--samples", "20", "--evaluations", "100", "--front-size", "4",
         "--threads", "1", "--device", "cpu"]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("early-exits")
    (folder / "tiny.yaml").write_text(RECIPE + "  height: {epochs: 1, warmup_epochs: 0}\n")
    train = ["train", "--supernet", "EE_D", "--recipe", folder / "tiny.yaml", "--out", folder / "run", "--threads", "1"]
    done = ofav2(*train)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def front(trained, out, threshold):
    done = ofav2("search", trained, "--out", out, *SMALL, "--exit-threshold", threshold)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "search.json").read_text())["front"]


def test_if_no_image_is_confident_enough_all_leave_at_the_last_exit(trained, tmp_path):
    for row in front(trained, tmp_path / "out", 0.999999):
        assert row["expected_top1"] == row["top1"] and row["expected_val_top1"] == row["val_top1"]
        if row["arch"]["height"] == 1:
            assert row["expected_macs"] == row["macs"]
        else:
            assert row["expected_macs"] > row["macs"]  # the earlier exits have computed their answers, too


def test_if_every_image_is_confident_all_leave_at_the_first_exit(trained, tmp_path):
    net = ofav2_api.open_run(trained).supernet()
    for row in front(trained, tmp_path / "out", 0.01):
        first = ofav2_api.cost(net, {**row["arch"], "height": 1}, row["resolution"])
        assert row["expected_macs"] == first.macs


def test_a_limit_below_the_smallest_network_is_refused_before_anything_is_measured(trained, tmp_path):
    done = ofav2("search", trained, "--out", tmp_path / "out", *SMALL, "--max-expected-macs", "1000")
    assert "expected MACs with early exit of at most 1000: the smallest network has " in done.error
    assert done.error.endswith("raise the limit") and not (tmp_path / "out").exists()
