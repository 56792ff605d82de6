"""Commands for tests of deployment, photographs, and the walk from a folder of photographs to predictions."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from .commands import ofav2

SCRIPT = Path(__file__).parents[2] / "examples" / "predict_standalone.py"

WALK_RECIPE = [
    "width_mult=0.25", "resolutions=[16]", "batch_size=16", "evaluation.bn_images=64",
    "evaluation.selection_draws=1", "evaluation.max_subnets=1",
    "phases={full: {epochs: 3, lr: 0.05}, depth: {epochs: 1, warmup_epochs: 0, lr: 0.005}}",
]  # fmt: skip
COLOURS = {"blue": (60, 80, 210), "green": (50, 190, 70), "red": (220, 60, 50)}


def command(*arguments: object):
    """The command in this process; it must succeed."""
    done = ofav2(*arguments)
    assert done.returncode == 0, done.stderr
    return done


def assert_refused(*arguments: object, words: tuple[str, ...]) -> None:
    """The command ends with one line that has these words."""
    error = ofav2(*arguments).error
    for word in words:
        assert word in error, error


def photographs(folder: Path, per_class: int, seed: int) -> None:
    """Photographs of different sizes and formats, in a folder per class; the classes are the colours."""
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            noise = rng.normal(0, 40, (5, 5, 3)) + colour
            picture = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
            size = tuple(rng.integers(20, 300, 2).tolist())
            picture.resize(size).save(folder / name / f"{name}-{i}.{('png', 'jpg', 'webp')[i % 3]}")


def walk(call: Callable[..., str], folder: Path) -> None:
    """Train on photographs, search, export, and predict other photographs, as the README does.

    Args:
        call: Runs `ofav2` with arguments; gives its output.
        folder: An empty folder.
    """
    photographs(folder / "photos", per_class=24, seed=0)
    photographs(folder / "new", per_class=3, seed=1)
    overrides = [part for override in WALK_RECIPE for part in ("--set", override)]
    call("train", "--supernet", "EE_D", "--dataset", "image-folder", "--root", folder / "photos",
         "--out", folder / "run", "--threads", 1, *overrides)  # fmt: skip
    found = call("search", folder / "run", "--out", folder / "search", "--samples", 20, "--evaluations", 100,
                 "--front-size", 2, "--threads", 1)  # fmt: skip
    [printed] = [line for line in found.splitlines() if line.startswith("next: ofav2 export ")]
    export = shlex.split(printed)[2:]
    export[export.index("--out") + 1] = str(folder / "bundle")
    call(*export, "--formats", "onnx")
    images = [folder / "new" / name for name in COLOURS]
    rows = [json.loads(line) for line in call("predict", folder / "bundle", *images, "--json").splitlines()]
    assert len(rows) == 9
    assert sum(row["classes"][0][0] == Path(row["image"]).parent.name for row in rows) >= 8
    alone = subprocess.run(
        [sys.executable, SCRIPT, folder / "bundle", *(row["image"] for row in rows)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for row, line in zip(rows, alone.stdout.splitlines(), strict=True):
        assert next(iter(json.loads(line.split("\t")[2]))) == row["classes"][0][0]
