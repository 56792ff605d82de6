"""Train, export, predict on photographs of different sizes; and every way in which a bundle can be wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support.commands import ofav2 as attempt
from support.deployment import SCRIPT, assert_refused, command

import ofav2_plugins as ofav2
from ofav2_plugins.data.batches import eval_batches
from ofav2_plugins.deploy.bundle import open_bundle
from ofav2_plugins.models.batch_norm import recalibrate_bn

ARCH = {"d": 2, "height": 3}


@pytest.fixture(scope="module")
def early(work) -> Path:
    """A bundle with early exits, in ONNX and int8."""
    command("export", work / "run", "--arch", work / "arch.json", "--out", work / "early", "--exits", "early",
            "--formats", "onnx", "--quantize", "int8")  # fmt: skip
    return work / "early"


@pytest.fixture(scope="module")
def last(work) -> Path:
    """A bundle with one exit as a torch.export archive, written after a first attempt was killed."""
    export = ("export", work / "run", "--arch", work / "arch.json", "--out", work / "last", "--formats", "torch_export")
    process = subprocess.Popen([sys.executable, "-m", "ofav2_plugins", *map(str, export)], stdout=subprocess.PIPE)
    partial = work / ".last.exporting" / "model.safetensors"
    deadline = time.monotonic() + 200
    while not partial.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert partial.exists() and not (work / "last").exists()
    command(*export)
    return work / "last"


def test_a_bundle_computes_what_the_supernet_computes(work, last):
    run = ofav2.open_run(work / "run")
    net, data = run.supernet(), run.data()
    net.set_active_subnet(**ARCH)
    static = net.get_active_subnet().eval()
    from ofav2_plugins.deploy.source import make_evaluator

    recalibrate_bn(static, make_evaluator(run, data).calibration(16))
    model = ofav2.load_bundle(last)
    right = 0
    with torch.no_grad():
        for images, labels in eval_batches(data, data.test, 16, 100):
            logits = model(images)
            torch.testing.assert_close(logits, static(images), atol=1e-4, rtol=1e-4)
            right += (logits.argmax(1) == labels).sum().item()
    top1 = 100 * right / len(data.test)
    assert top1 > 20  # trained: chance is 10
    verification = open_bundle(last).verification
    assert verification["measured"]["decision"]["top1"] == pytest.approx(top1)
    assert verification["verified"]["formats"]["torch_export"]["max_difference"] < 1e-4
    assert f"{top1:.2f} %" in (last / "card.md").read_text()
    program = torch.export.load(last / "model.pt2").module()
    torch.testing.assert_close(program(images[:7]), logits[:7], atol=1e-4, rtol=1e-4)


def test_nothing_but_the_bundle_is_left(work, early, last):
    assert not [path for path in work.iterdir() if path.name.startswith(".")]  # a killed attempt is cleaned up, too
    expected = {"config.json", "model.safetensors", "card.md", "verification.json", "model.pt2"}
    assert {path.name for path in last.iterdir()} == expected


def test_early_exits_report_what_they_reach(early):
    bundle = open_bundle(early)
    figures = bundle.verification["measured"]["decision"]
    assert sum(figures["shares"]) == pytest.approx(1)
    assert figures["val_top1"] >= figures["full_network"]["val_top1"]
    assert figures["macs"] <= figures["full_network"]["macs"] * 1.02
    assert len(bundle.config.models["onnx"].segments) in (0, len(bundle.config.exits))
    verified = bundle.verification["verified"]["formats"]
    assert verified["onnx"]["max_difference"] < 1e-4
    assert verified["onnx"]["top1"] == pytest.approx(figures["top1"], abs=0.11)
    assert {"onnx", "onnx-int8", "torch"} == set(verified)
    assert "float_operators" in bundle.verification["measured"]["int8"]


def test_predictions_agree_between_the_command_the_script_and_the_module(work, early):
    done = command("predict", early, work / "photos", "--json", "--top", 3)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(row["image"]).name for row in rows] == ["0.png", "1.png", "2.png", "3.png"]
    alone = subprocess.run(
        [sys.executable, SCRIPT, early, *(row["image"] for row in rows)], capture_output=True, text=True, check=True
    )
    model = ofav2.load_bundle(early)
    for row, line in zip(rows, alone.stdout.splitlines(), strict=True):
        path, exit, classes = line.split("\t")
        assert (path, int(exit)) == (row["image"], row["exit"])
        names, probabilities = zip(*row["classes"], strict=True)
        assert list(json.loads(classes))[:3] == list(names)
        np.testing.assert_allclose(list(json.loads(classes).values())[:3], probabilities, atol=2e-4)
        answer = model.answer(model.preprocess(path)[None])
        assert model.class_names[answer.logits.argmax()] == names[0]
        assert model.config.exits[answer.exits.item()].number == row["exit"]
    lines = [line for line in SCRIPT.read_text().splitlines() if line.strip()]
    assert len(lines) <= 25


def test_bench_times_each_part(early):
    done = command("bench", early, "--formats", "onnx", "--runs", 3, "--warmup", 1, "--batch-sizes", "1,2", "--json")
    rows = json.loads(done.stdout)
    assert {(row["part"], row["batch_size"]) for row in rows} >= {("full network", 1), ("full network", 2)}
    assert all(0 < row["p50_ms"] <= row["p99_ms"] for row in rows)
    assert_refused("bench", early, "--formats", ",", words=("format must be one of", "but got ''"))


def test_damaged_and_swapped_files_are_refused(work, early, last, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(early, broken)
    photo = work / "photos" / "0.png"
    verification = (early / "verification.json").read_text()
    (broken / "verification.json").write_text(verification.replace('"images": 64', '"images": 65'))
    assert_refused("predict", broken, photo, words=("verification.json", "digest", "export it again"))
    (broken / "verification.json").write_text(verification)
    content = bytearray((early / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (broken / "model.safetensors").write_bytes(content)
    with pytest.raises(ofav2.UserError, match=r"model\.safetensors is not the file that was verified"):
        ofav2.load_bundle(broken)
    model = open_bundle(early).config.models["onnx"]
    for name in ([*model.segments, model.file][0], "config.json"):
        content = (early / name).read_bytes()
        (broken / name).write_bytes(content[: len(content) // 2])  # truncated
        assert_refused("predict", broken, photo, words=(name, "is not the file that was verified", "export it again"))
        (broken / name).write_bytes(content)
    shutil.copy(last / "config.json", broken / "config.json")
    assert_refused("predict", broken, photo, words=("config.json", "export it again"))
    (broken / "verification.json").unlink()
    assert_refused("predict", broken, photo, words=("not a bundle", "verification.json"))


def test_wrong_input_is_one_line_and_leaves_nothing(work, tmp_path):
    out = tmp_path / "out"
    export = ("export", work / "run", "--out", out, "--formats", "torch_export", "--arch")
    wrong = tmp_path / "wrong.json"
    for arch, words in [
        ({"d": 2, "height": 9}, ("wrong.json", "height must be one of")),
        ({"ks": 3}, ("ks[0]", "[7]", "but got 3", "train the phase")),
        ({"depth": 2}, ("'depth'", "ks")),
        ([], ("must contain an architecture",)),
        ({"arch": {"d": 2}, "resolution": 10**9}, ("resolution must be at most 4096", "but got 1000000000")),
    ]:
        wrong.write_text(json.dumps(arch))
        assert_refused(*export, wrong, words=words)
    assert_refused("export", tmp_path, "--out", out, "--arch", work / "arch.json", words=("run.json",))
    assert_refused(*export, work / "arch.json", "--formats", "tflite", words=("'tflite'", "onnx"))
    assert_refused(*export, work / "arch.json", "--target-top1", 50, words=("--exits early",))
    assert not out.exists() and {path.name for path in tmp_path.iterdir()} == {"wrong.json"}


def test_an_unfinished_run_is_refused(work, tmp_path):
    shutil.copytree(work / "run", tmp_path / "run")
    [depth] = (tmp_path / "run" / "steps").glob("depth-2-*")
    shutil.rmtree(depth)
    assert_refused("export", tmp_path / "run", "--arch", work / "arch.json", "--out", tmp_path / "out",
                   words=("not finished", "depth-2", "--resume"))  # fmt: skip


def test_images_that_cannot_be_read_are_named_and_the_others_predicted(work, last, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    done = attempt("predict", last, work / "photos" / "0.png", tmp_path / "bad.png", "--json")
    assert done.returncode == 1 and "bad.png cannot be read" in done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert_refused("predict", last, tmp_path / "none.png", words=("none.png does not exist",))
    (tmp_path / "empty").mkdir()
    assert_refused("predict", last, tmp_path / "empty", words=("empty", "must have images", "but has none"))


def test_a_full_disk_is_named_and_leaves_nothing(work, small_disk):
    out = small_disk / "b"
    export = ("export", work / "run", "--arch", work / "arch.json", "--out", out, "--formats", "torch_export")
    assert_refused(*export, words=("disk is full", str(out)))
    assert not list(small_disk.iterdir())


def test_a_bundle_can_be_moved(work, last, tmp_path):
    shutil.move(shutil.copytree(last, tmp_path / "here"), tmp_path / "there")
    [row] = command("predict", tmp_path / "there", work / "photos" / "0.png", "--json").stdout.splitlines()
    [same] = command("predict", last, work / "photos" / "0.png", "--json").stdout.splitlines()
    assert json.loads(row)["classes"] == json.loads(same)["classes"]


@pytest.mark.slow
def test_int8_that_loses_too_much_keeps_fp32(work, monkeypatch, tmp_path):
    from ofav2_plugins.deploy import export as module
    from ofav2_plugins.deploy.decision import DecisionOptions
    from ofav2_plugins.deploy.source import SourceOptions

    options = module.ExportOptions(tmp_path / "b", ["onnx"], "int8", max_int8_loss=-200.0)  # more than any gain
    with pytest.raises(ofav2.UserError, match=r"int8 loses .* has the fp32 network only"):
        module.export_bundle(SourceOptions(work / "run", work / "arch.json"), DecisionOptions(), options)
    assert open_bundle(tmp_path / "b").formats == ["onnx", "torch"]
    assert not list((tmp_path / "b").glob("*int8*"))
    assert "int8 files were removed" in (tmp_path / "b" / "card.md").read_text()
