"""Every registered backbone end to end: plan, train, resume, doctor, ablate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.commands import SMALL, ofav2, overrides

from ofav2_plugins import registry

PHASES = "phases={full: {epochs: 1, lr: 0.05}, depth: {epochs: 1, warmup_epochs: 0}}"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """An image folder with three classes: noise of three colors."""
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 8)):
        for label, color in enumerate(("red", "green", "blue")):
            (folder / split / color).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 100, (20, 20, 3), dtype=np.uint8)
                pixels[..., label] += 100
                Image.fromarray(pixels).save(folder / split / color / f"{i}.png")
    return folder


def succeed(*arguments: object) -> str:
    done = ofav2(*arguments)
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names(registry.BACKBONES))
def test_a_backbone_is_planned_trained_resumed_and_checked(name, photographs, tmp_path):
    run, settings = tmp_path / "run", overrides(*SMALL, "batch_size=32", PHASES)
    supernet = ["--supernet", f"EE_D,backbone={name}", "--recipe", "quick", *settings]
    data = ["--dataset", "image-folder", "--root", photographs]
    planned = [step["phase"] for step in json.loads(succeed("plan", "--json", *supernet))]
    assert planned[0] == "full" and set(planned[1:]) == {"depth"}

    succeed("train", *supernet, *data, "--out", run, "--threads", 1)
    [last] = (run / "steps").glob(f"depth-{len(planned) - 1}-*")
    weights = (last / "best.safetensors").read_bytes()
    shutil.rmtree(last)
    succeed("train", *supernet, *data, "--out", run, "--threads", 1, "--resume")
    assert (last / "best.safetensors").read_bytes() == weights
    succeed("doctor", "--run", run)


@pytest.mark.parametrize("name", registry.names(registry.BACKBONES))
def test_a_study_compares_variants_of_a_backbone(name, photographs, tmp_path):
    arms = [{"name": variant, "supernet": f"{variant},backbone={name}"} for variant in ("SE_B", "SE_D")]
    study = {"dataset": "image-folder", "recipe": "quick", "baseline": "SE_B", "arms": arms, "seeds": [0],
             "overrides": [*SMALL, "batch_size=32", "phases={full: {epochs: 1}}"]}  # fmt: skip
    (tmp_path / "study.yaml").write_text(json.dumps(study))
    succeed("ablate", tmp_path / "study.yaml", "--root", photographs, "--out", tmp_path / "out", "--threads", 1)
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert [row["arm"] for row in rows] == ["SE_B", "SE_D"]
