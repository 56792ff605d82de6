"""Fine-tuning: two stages, resumable to the bit, and exported like a run."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time

import pytest
import torch
from support.deployment import assert_refused, command

import ofav2_plugins as ofav2
from ofav2_plugins.deploy.bundle import open_bundle
from ofav2_plugins.deploy.finetune import FineTuneOptions, finetuned_networks
from ofav2_plugins.errors import UserError


def arguments(work, out, *more: str) -> tuple[object, ...]:
    given = (work / "run", "--arch", work / "arch.json", "--out", out, "--threads", 1, "--epochs", 2, "--lr", 0.001)
    return ("finetune", *given, *more)


@pytest.mark.parametrize("lr", [0.0, -1.0, math.nan, math.inf])
def test_a_learning_rate_that_cannot_train_is_refused(tmp_path, lr):
    with pytest.raises(UserError, match="--lr must be a finite number above 0"):
        FineTuneOptions(tmp_path, lr=lr)


@pytest.fixture(scope="module")
def tuned(work):
    command(*arguments(work, work / "tuned", "--all-exits"))
    return work / "tuned"


@pytest.mark.slow
def test_both_stages_train_all_exits_and_the_result_is_exported(work, tuned):
    final, selection_net, record = finetuned_networks(tuned)
    run = ofav2.open_run(work / "run").supernet()
    run.set_active_subnet(d=2, height=3)
    before = run.get_multi_exit_subnet()
    for number in ("1", "2", "3"):
        heads = [net.exits[number].classifier.linear.weight for net in (before, selection_net, final)]
        assert not torch.equal(heads[0], heads[1]) and not torch.equal(heads[1], heads[2])
    assert 1 <= record["epochs"] <= 2 and record["adamw"] and record["val_top1"] > 20
    command("export", tuned, "--out", work / "tuned-bundle", "--exits", "ensemble", "--formats", "torch_export")
    figures = open_bundle(work / "tuned-bundle").verification["measured"]["decision"]
    assert len(figures["sets_of_exits"]) == 7
    assert figures["val_top1"] >= figures["all_exits"]["val_top1"]
    assert "finetuned" in (work / "tuned-bundle" / "card.md").read_text()


@pytest.mark.slow
def test_killed_and_resumed_it_ends_with_the_same_weights(work, tuned, tmp_path):
    line = [sys.executable, "-m", "ofav2_plugins", *map(str, arguments(work, tmp_path / "t", "--all-exits"))]
    process = subprocess.Popen([*line, "--save-every", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("t/steps/*/state.previous.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert not (tmp_path / "t" / "finetune.json").exists()
    assert_refused("export", tmp_path / "t", "--out", tmp_path / "b", words=("not finished", "--resume"))
    assert_refused(*arguments(work, tmp_path / "t", "--all-exits"), words=("--resume",))
    command(*arguments(work, tmp_path / "t", "--all-exits", "--resume"))
    for net, expected in zip(finetuned_networks(tmp_path / "t")[:2], finetuned_networks(tuned)[:2], strict=True):
        for name, value in net.state_dict().items():
            assert torch.equal(value, expected.state_dict()[name]), name


@pytest.mark.slow
def test_the_maximal_network_teaches_all_exits(work, tuned, tmp_path):
    command(*arguments(work, tmp_path / "t", "--all-exits", "--distill"))
    final, _, record = finetuned_networks(tmp_path / "t")
    assert record["distill"] and record["all_exits"] and record["val_top1"] > 20
    undistilled = finetuned_networks(tuned)[0]
    for number in ("1", "2", "3"):
        heads = [net.exits[number].classifier.linear.weight for net in (undistilled, final)]
        assert not torch.equal(*heads)


@pytest.mark.slow
def test_wrong_input(work, tuned, tmp_path):
    (tmp_path / "other.json").write_text(json.dumps({"d": 3, "height": 3}))
    export = ("export", tuned, "--out", tmp_path / "b", "--arch", tmp_path / "other.json")
    assert_refused(*export, words=("fine-tuned for an architecture other than",))
    assert not (tmp_path / "b").exists() and not (tmp_path / "t").exists()
