"""The share of the input pipeline in a training step: time for a batch from the decoded cache and for the step.

    python benchmarks/input_pipeline.py [--root FOLDER_OF_TINY_IMAGENET] [--threads 2]

Without --root the images are noise of the same shape (the cost of the pipeline is the same). Batch 64,
resolutions 48 to 64, width multiplier 1.0, one random subnet per step. This is the cheapest kind of step: with several
subnets, a teacher or the maximal network the share is smaller. Alternates batch and step, and prints medians.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from ofav2_plugins import build_supernet, registry
from ofav2_plugins.data.base import DataSplits, Split, make_splits
from ofav2_plugins.data.batches import train_batches
from ofav2_plugins.recipes.schema import load_recipe
from ofav2_plugins.training.losses import Objective
from ofav2_plugins.training.trainer import make_optimizer, train_batch
from ofav2_plugins.utils.distributed import make_fabric
from ofav2_plugins.utils.seeding import python_rng

STEPS = 40


def noise(folder: Path) -> DataSplits:
    """Memory-mapped noise in the shape of Tiny ImageNet."""
    images = np.memmap(folder / "images.u8", np.uint8, "w+", shape=(20_000, 3, 64, 64))
    images[:] = np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8)
    split = Split(images, np.arange(len(images)) % 40)
    return make_splits(
        "noise", split, split, class_names=[str(i) for i in range(40)], resolutions=(48, 52, 56, 60, 64),
        mean=(0.5,) * 3, std=(0.25,) * 3, validation_fraction=0.15, seed=0,
    )  # fmt: skip


def main() -> None:
    """Measure and print as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        if options.root:
            data = registry.load(registry.DATASETS, "tiny-imagenet").load(options.root)
        else:
            data = noise(Path(folder))
        recipe, fabric = load_recipe("paper"), make_fabric("cpu")
        net = build_supernet("EE_D", data.n_classes).to(memory_format=torch.channels_last).train()
        optimizer = make_optimizer(net, recipe, 0.01)
        objective = Objective(recipe, registry.load(registry.DISTILLATION, "none"))
        teacher = registry.load(registry.TEACHERS, "none")
        batches = train_batches(data, batch_size=64, resolutions=data.resolutions, seed=0, phase="kernel", epoch=0)
        feeding, training = [], []
        for step in range(STEPS):
            started = time.perf_counter()
            [(images, labels)] = islice(batches, 1)
            fed = time.perf_counter()
            archs = [net.space.sample(python_rng(step))]
            train_batch(fabric, net, optimizer, objective, images, labels, archs, teacher)
            feeding.append(fed - started)
            training.append(time.perf_counter() - fed)
    batch, step_seconds = statistics.median(feeding[5:]), statistics.median(training[5:])
    print(
        json.dumps(
            {
                "images": "tiny-imagenet" if options.root else "noise",
                "batch_ms": round(1000 * batch, 2),
                "step_ms": round(1000 * step_seconds, 1),
                "share_percent": round(100 * batch / (batch + step_seconds), 2),
                "threads": options.threads,
                "machine": platform.machine(),
                "date": time.strftime("%Y-%m-%d"),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
