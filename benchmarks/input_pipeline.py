"""The cost of the input pipeline: its share in a training step, or the throughput of cached and streamed images.

    python benchmarks/input_pipeline.py [--root FOLDER_OF_TINY_IMAGENET] [--threads 2]
    python benchmarks/input_pipeline.py --throughput [--root FOLDER_OF_TINY_IMAGENET] [--images 1000] [--rounds 3]

The first form times batches from the decoded cache and training steps. Without --root the images are noise of the
same shape (the cost of the pipeline is the same). Batch 64, resolutions 48 to 64, width multiplier 1.0, one random
subnet per step. This is the cheapest kind of step: with several subnets, a teacher or the maximal network the share is
smaller. Alternates batch and step, and prints medians.

The second form prints images per second of one core (CPU time of the process and its workers) and of the wall clock
with one worker process, for training batches of 64 random resized crops from JPEG files of 500 x 375 pixels:
torchvision's ImageFolder with torch's DataLoader, streamed images, and cached images, alternating. The files are made
in a temporary folder, from images of Tiny ImageNet or from noise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from ofav2_plugins import build_supernet, registry
from ofav2_plugins.augmentation.crop_flip import CropFlip
from ofav2_plugins.data.base import IMAGENET_MEAN, IMAGENET_STD, DataSplits, Split, make_splits
from ofav2_plugins.data.batches import train_batches
from ofav2_plugins.recipes.schema import load_recipe
from ofav2_plugins.training.losses import Objective
from ofav2_plugins.training.trainer import make_optimizer, train_batch
from ofav2_plugins.utils.distributed import make_fabric
from ofav2_plugins.utils.seeding import python_rng

STEPS = 40
MIN_SCALE = 0.08  # of the crops in the throughput benchmark, as usual for ImageNet


def noise(folder: Path) -> DataSplits:
    """Memory-mapped noise in the shape of Tiny ImageNet."""
    images = np.memmap(folder / "images.u8", np.uint8, "w+", shape=(20_000, 3, 64, 64))
    images[:] = np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8)
    split = Split(images, np.arange(len(images)) % 40)
    return make_splits(
        "noise", split, split, class_names=[str(i) for i in range(40)], resolutions=(48, 52, 56, 60, 64),
        mean=(0.5,) * 3, std=(0.25,) * 3, validation_fraction=0.15, seed=0,
    )  # fmt: skip


def write_jpegs(folder: Path, n_images: int, root: Path | None) -> int:
    """JPEG files of 500 x 375 pixels in FOLDER/train/<class>, and a few in FOLDER/val; their mean size in bytes."""
    rng = np.random.default_rng(0)
    sources = sorted(root.glob("train/*/images/*.JPEG")) if root else []
    sizes = []
    for number in range(n_images):
        small = Image.open(sources[number * len(sources) // n_images]).convert("RGB") if sources else None
        if small is None:
            small = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
        pixels = np.asarray(small.resize((500, 375), Image.Resampling.BICUBIC), dtype=np.float32)
        grain = rng.normal(0, 8, pixels.shape[:2])[..., None]  # photographs have detail: about 110 KB per file
        path = folder / ("val" if number % 20 == 0 else "train") / str(number // 20 % 4) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8)).save(path, quality=90)
        sizes.append(path.stat().st_size)
    return round(statistics.mean(sizes))


def torchvision_batches(folder: Path, resolution: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The usual input pipeline of ImageNet trainings."""
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(resolution, scale=(MIN_SCALE, 1)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    dataset = datasets.ImageFolder(folder / "train", transform)
    yield from DataLoader(dataset, batch_size=64, shuffle=True, num_workers=1, drop_last=True)


def own_batches(data: DataSplits, resolution: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The same crops by `train_batches`."""
    return train_batches(
        data, batch_size=64, resolutions=(resolution,), seed=0, phase="full", epoch=0,
        augmentations=[CropFlip(min_scale=MIN_SCALE)],
    )  # fmt: skip


def cpu_seconds() -> float:
    """CPU time of this process and of its finished child processes."""
    return sum(os.times()[:4])


def throughput(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Images per second of the three pipelines."""
    os.environ.update(OFAV2_CACHE=str(folder / "cache"), OFAV2_DATA_WORKERS="1")
    n_bytes = write_jpegs(folder, options.images, options.root)
    cached, streamed = (
        registry.load(registry.DATASETS, {"name": "image-folder", "streaming": streaming}).load(folder)
        for streaming in (False, True)
    )
    found: dict[str, Any] = {}
    for resolution in (128, 224):
        pipelines = {
            "torchvision": lambda r=resolution: torchvision_batches(folder, r),
            "streamed": lambda r=resolution: own_batches(streamed, r),
            "cached": lambda r=resolution: own_batches(cached, r),
        }
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in pipelines}
        for _ in range(options.rounds):
            for name, batches in pipelines.items():
                started, cpu_started = time.perf_counter(), cpu_seconds()
                n_images = sum(len(labels) for _, labels in batches())
                cpu, wall = cpu_seconds() - cpu_started, time.perf_counter() - started
                rates[name].append((n_images / cpu, n_images / wall))
        found[f"{resolution} px"] = {
            name: {
                "images_per_core_second": round(statistics.median(per_core for per_core, _ in pairs)),
                "images_per_second": round(statistics.median(per_second for _, per_second in pairs)),
            }
            for name, pairs in rates.items()
        }
    return {"images": options.images, "mean_kb": round(n_bytes / 1000), **found}


def share(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Times of a batch and of a training step."""
    if options.root:
        data = registry.load(registry.DATASETS, "tiny-imagenet").load(options.root)
    else:
        data = noise(folder)
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
    return {
        "images": "tiny-imagenet" if options.root else "noise",
        "batch_ms": round(1000 * batch, 2),
        "step_ms": round(1000 * step_seconds, 1),
        "share_percent": round(100 * batch / (batch + step_seconds), 2),
        "threads": options.threads,
    }


def main() -> None:
    """Measure and print as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--throughput", action="store_true")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1 if options.throughput else options.threads)
    with tempfile.TemporaryDirectory() as folder:
        found = throughput(options, Path(folder)) if options.throughput else share(options, Path(folder))
    machine = {"machine": platform.machine(), "date": time.strftime("%Y-%m-%d")}
    print(json.dumps({**found, **machine}, indent=1))


if __name__ == "__main__":
    main()
