"""Starting from other weights: missing parts are named, and the values that they were trained for are unlocked."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.upstream_nets import upstream_net

import ofav2_plugins as ofav2
from ofav2_plugins import registry
from ofav2_plugins.execution.training_run import TrainingRun
from ofav2_plugins.exits.weights import only_trained
from ofav2_plugins.models.pretrained import InitialWeights, load_initial
from ofav2_plugins.recipes.schema import load_recipe
from ofav2_plugins.training.run_config import RunConfig
from ofav2_plugins.utils.distributed import make_fabric

CLASSES = 10


@pytest.fixture(scope="module")
def theirs():
    return upstream_net(dropout_rate=0).eval()


@pytest.fixture(scope="module")
def official(theirs, tmp_path_factory) -> Path:
    """Like the official checkpoints: under "state_dict", with the old names."""
    path = tmp_path_factory.mktemp("official") / "ofa_mbv3"
    old = {key.replace(".conv.inverted", ".mobile_inverted_conv.inverted"): v for key, v in theirs.state_dict().items()}
    old = {key.replace(".conv.depth_conv", ".mobile_inverted_conv.depth_conv"): v for key, v in old.items()}
    old = {key.replace(".conv.point_linear", ".mobile_inverted_conv.point_linear"): v for key, v in old.items()}
    torch.save({"state_dict": old}, path)
    assert sum("mobile_inverted_conv" in key for key in old) > 100
    return path


@pytest.mark.parametrize("name", list(ofav2.VARIANTS))
def test_every_variant_starts_with_upstreams_output_if_its_design_allows_it(name, theirs, official):
    net = ofav2.build_supernet(name, n_classes=CLASSES, width_mult=0.25, dropout_rate=0)
    notes = load_initial(official).put_into(net)
    assert any("'conv1x1' is initialized" in note for note in notes) == name.endswith(("_P", "_DP"))
    assert any("exits 1, 2, 3, 4 are initialized" in note for note in notes) == name.startswith("EE")
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for depth in (2, 4):
        net.eval().set_active_subnet(ks=5, d=depth)
        theirs.set_active_subnet(ks=5, e=6, d=depth)
        with torch.no_grad():
            ours, expected = net(images), theirs(images)
        if depth == 2 or name.endswith(("_B", "_P")):  # dense skips add something from depth 3 on
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)


def test_branches_near_zero_learn():
    net = ofav2.build_supernet("SE_P", n_classes=CLASSES, width_mult=0.25, dropout_rate=0).train()
    before = {key: value for key, value in net.state_dict().items() if ".branches." not in key}
    initial = InitialWeights(Path("memory"), before, {}, "")
    initial.put_into(net)
    net(torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    for block in net.blocks[1:]:
        for branch in block.branches.values():
            assert branch.bn.weight.abs().max() < 1e-5
            assert branch.bn.weight.grad.abs().max() > 0


def test_with_another_number_of_classes_the_classifier_starts_from_scratch(official):
    net = ofav2.build_supernet("EE_B", n_classes=7, width_mult=0.25)
    fresh = net.classifier.linear.weight.detach().clone()
    notes = load_initial(official).put_into(net)
    assert "the classifier is initialized: the file has 10 classes, this network 7" in notes
    assert torch.equal(net.classifier.linear.weight, fresh)


def test_a_larger_variant_starts_a_smaller_one_on_request(tmp_path):
    large = ofav2.build_supernet("EE_DP", n_classes=CLASSES, width_mult=0.25, dropout_rate=0).eval()
    torch.save(large.state_dict(), tmp_path / "large")
    small = ofav2.build_supernet("SE_D", n_classes=CLASSES, width_mult=0.25, dropout_rate=0).eval()
    with pytest.raises(
        ofav2.UserError, match=r"branch 'conv1x1', branch 'transform', exit 1, .*exit 4; add --init-par"
    ):
        load_initial(tmp_path / "large").put_into(small)
    initial = load_initial(tmp_path / "large", partial=True)
    notes = initial.put_into(small)
    assert "branch 'conv1x1' of the file is dropped" in notes and "exit 4 of the file is dropped" in notes
    assert initial.to_dict() == {**load_initial(tmp_path / "large").to_dict(), "partial": True}
    large.set_active_subnet(level=("mbconv",), height=5)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(small(images), large(images))


@pytest.mark.parametrize("branch", registry.names(registry.BRANCHES))
def test_new_branches_hardly_change_the_output_or_are_named(branch, theirs):
    spec = ofav2.SupernetSpec(branches=(branch,))
    net = ofav2.build_supernet(spec, n_classes=CLASSES, width_mult=0.25, dropout_rate=0).eval()
    [note] = InitialWeights(Path("memory"), theirs.state_dict(), None, "").put_into(net)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    theirs.set_max_net()
    with torch.no_grad():
        difference = (net(images) - theirs(images)).abs().max() / theirs(images).abs().max()
    assert (difference < 1e-2) == ("near 0" in note)
    assert f"branch {branch!r}" in note


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_file_without_weights_is_rejected(official, tmp_path, capfd):
    net = ofav2.build_supernet("SE_B", n_classes=CLASSES, width_mult=0.5)
    with pytest.raises(
        ofav2.UserError, match=r"the width multiplier differs: the file has about 0\.\d+ times the channels"
    ):
        load_initial(official).put_into(net)
    (tmp_path / "evil").write_bytes(pickle.dumps({"state_dict": Evil()}))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "half").write_bytes(official.read_bytes()[:1000])
    torch.save([1, 2], tmp_path / "list")
    torch.save({"first_conv.conv.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "other")
    for name in ("evil", "empty", "half", "list", "missing"):
        with pytest.raises(ofav2.UserError, match=name):
            load_initial(tmp_path / name)
    assert "executed" not in capfd.readouterr().out
    net = ofav2.build_supernet("SE_B", n_classes=CLASSES, width_mult=0.25)
    with pytest.raises(ofav2.UserError, match="it lacks"):
        load_initial(tmp_path / "other").put_into(net)


@pytest.mark.slow
def test_level_and_height_continue_an_official_checkpoint(official, tmp_path):
    settings = ["width_mult=0.25", "resolutions=[16]", "batch_size=512", "evaluation.bn_images=64",
                "evaluation.max_subnets=1", "evaluation.final_trunks=1",
                "evaluation.selection_draws=1"]  # fmt: skip
    more = [part for setting in settings for part in ("--set", setting)]
    chosen = ["--supernet", "EE_DP", "--init-from", str(official), "--phases", "level,height", *more]
    ofav2_ = [sys.executable, "-m", "ofav2_plugins"]
    plan = json.loads(subprocess.run([*ofav2_, "plan", "--json", *chosen], capture_output=True, check=True).stdout)
    assert [(step["phase"], step["starts_from"], step["teacher"]) for step in plan] == [
        ("level", "init", "init"), ("level", "level-1", "init"), ("height", "level-2", "init"),
        ("height", "height-1", "init"), ("height", "height-2", "init"), ("height", "height-3", "init"),
    ]  # fmt: skip
    out = tmp_path / "run"
    train = [*ofav2_, "train", "--out", str(out), "--threads", "1", "--set", "phases.height.epochs=1", *chosen]
    done = subprocess.run(train, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "exits 1, 2, 3, 4 are initialized" in done.stdout
    [row] = json.loads((out / "results.json").read_text())["rows"]
    assert [phase["name"] for phase in row["phases"]][:2] == ["level-1", "level-2"]
    [folder] = out.glob("steps/height-4-*")
    again = load_initial(folder / "best.safetensors")
    assert again.unlocked["ks"] == (3, 5, 7) and again.unlocked["height"] == (1, 2, 3, 4, 5)


def test_untrained_exits_teach_nothing(official, tmp_path):
    recipe = load_recipe("quick", ["teacher=progressive", "width_mult=0.25"]).with_phases(["level", "height"])
    data = registry.load(registry.DATASETS, "fashion-mini").load()
    arm = RunConfig("a", "EE_DP", recipe, 0, load_initial(official))
    run = TrainingRun(arm, data, tmp_path, make_fabric("cpu"))
    assert run.plan[0].space.unlocked_values("ks") == (3, 5, 7) and run.plan[0].space.unlocked_values("d") == (2, 3, 4)
    trained = {step: run.trained_exits(step) for step in ("init", "level-2", "height-1", "height-3")}
    assert trained == {"init": {5}, "level-2": {5}, "height-1": {4, 5}, "height-3": {2, 3, 4, 5}}
    whole = TrainingRun(RunConfig("b", "EE_DP", load_recipe("quick"), 0), data, tmp_path, make_fabric("cpu"))
    assert whole.trained_exits("kernel") == {1, 2, 3, 4, 5}
    assert only_trained((0.1, 0.2, 0.3, 0.4), (1, 2, 3, 4), {3, 4}) == pytest.approx((0, 0, 3 / 7, 4 / 7))
