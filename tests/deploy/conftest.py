"""A trained run, an architecture and photographs, for all tests of deployment."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.deployment import command

RECIPE = [
    "width_mult=0.25", "resolutions=[16]", "batch_size=128", "evaluation.bn_images=128",
    "evaluation.selection_draws=1", "evaluation.max_subnets=1", "evaluation.batch_size=500",
    "phases={full: {epochs: 3, lr: 0.1}, height: {epochs: 1, warmup_epochs: 0}, depth: {epochs: 1, warmup_epochs: 0}}",
]  # fmt: skip
ARCH = {"d": 2, "height": 3}


@pytest.fixture(scope="session")
def work(tmp_path_factory) -> Path:
    """A folder with a trained run, an architecture and photographs."""
    folder = tmp_path_factory.mktemp("deploy")
    overrides = [part for override in RECIPE for part in ("--set", override)]
    command("train", "--supernet", "EE_D", "--out", folder / "run", "--threads", 1, *overrides)
    (folder / "arch.json").write_text(json.dumps({"arch": ARCH, "resolution": 16}))
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i, (size, mode) in enumerate([((300, 200), "RGB"), ((90, 333), "L"), ((20, 17), "RGBA"), ((28, 28), "L")]):
        picture = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize(size).convert(mode)
        turned = Image.Exif()
        turned[0x0112] = 1 + i
        picture.save(folder / "photos" / f"{i}.png", exif=turned)
    return folder
