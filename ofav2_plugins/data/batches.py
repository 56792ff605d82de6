"""Batches from uint8 arrays: elastic resolution and augmentation on whole batches, by (seed, phase, epoch, step).

Source: OFA section 3 (elastic resolution).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..augmentation.base import Augmentation, BatchContext, augment
from ..augmentation.crop_flip import CropFlip
from ..utils.seeding import derive_seed, python_rng
from .base import DataSplits, Split


def sample_resolution(resolutions: Sequence[int], seed: int, phase: str, epoch: int, step: int) -> int:
    """The resolution of one batch in pixels, the same on all ranks."""
    return python_rng(seed, phase, epoch, step, "resolution").choice(list(resolutions))


def steps_per_epoch(n_images: int, batch_size: int) -> int:
    """Batches of an epoch: the last partial one is dropped, unless it is the only one."""
    return max(1, n_images // batch_size)


def train_batches(
    data: DataSplits,
    *,
    batch_size: int,
    resolutions: Sequence[int],
    seed: int,
    phase: str,
    epoch: int,
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    augmentations: Sequence[Augmentation] = (CropFlip(),),
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of augmented training batches: images [B, 3, r, r] and labels [B], r drawn per batch.

    Labels are probabilities [B, n_classes] if an augmentation mixes them. Every batch depends on (seed, phase, epoch,
    step) only, so an epoch may start at any step. With several ranks each takes its part of the global batch, with the
    crops that a single process would have drawn.

    Args:
        data: The splits.
        batch_size: Of all ranks together.
        resolutions: Elastic resolutions in pixels.
        seed: The run's seed.
        phase: Name of the step of the plan.
        epoch: From 0.
        start_step: The first batch to give.
        rank: This process.
        world_size: Number of processes.
        augmentations: Applied in order.
    """
    order = np.random.default_rng(derive_seed(seed, phase, epoch, "order")).permutation(len(data.train))
    for step in range(start_step, steps_per_epoch(len(order), batch_size)):
        indices = order[step * batch_size : (step + 1) * batch_size]
        resolution = sample_resolution(resolutions, seed, phase, epoch, step)
        mine = slice(rank * len(indices) // world_size, (rank + 1) * len(indices) // world_size)
        context = BatchContext(len(indices), mine, resolution, data.n_classes, (seed, phase, epoch, step, "crop"))
        own = indices[mine]
        images, labels = augment(pixels(data.train, own), labels_of(data.train, own), augmentations, context)
        yield normalise(images, data), labels


def eval_batches(data: DataSplits, split: Split, resolution: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images [B, 3, r, r] and labels [B] in order: resized to ceil(r / 0.875), the centre r cropped."""
    size = math.ceil(resolution / 0.875)
    corner = round((size - resolution) / 2)
    for start in range(0, len(split), batch_size):
        indices = np.arange(start, min(start + batch_size, len(split)))
        images = pixels(split, indices)
        images = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
        images = images[:, :, corner : corner + resolution, corner : corner + resolution]
        yield normalise(images, data), labels_of(split, indices)


def calibration_batches(
    data: DataSplits,
    resolution: int,
    n_images: int,
    batch_size: int,
    seed: int,
    augmentations: Sequence[Augmentation] = (CropFlip(),),
) -> list[Tensor]:
    """Augmented training images [B, 3, r, r] for batch norms, at most `n_images` in total, `batch_size` per batch.

    Only the geometric ones of `augmentations` are applied. The batches are of equal size up to one image, so each has
    the same weight in the mean of their statistics.
    """
    order = np.random.default_rng(derive_seed(seed, "calibration")).permutation(len(data.train))[:n_images]
    geometric = [augmentation for augmentation in augmentations if augmentation.geometric]
    batches = []
    for number, indices in enumerate(np.array_split(order, math.ceil(len(order) / batch_size))):
        every, seed_parts = slice(0, len(indices)), (seed, "calibration", resolution, number)
        context = BatchContext(len(indices), every, resolution, data.n_classes, seed_parts)
        images, _ = augment(pixels(data.train, indices), labels_of(data.train, indices), geometric, context)
        batches.append(normalise(images, data))
    return batches


def pixels(split: Split, indices: np.ndarray) -> Tensor:
    """Images of a split as float [N, C, S, S] in 0..255."""
    return torch.from_numpy(split.pixels(indices)).float()


def labels_of(split: Split, indices: np.ndarray) -> Tensor:
    """Labels of a split as int64 [N]."""
    return torch.from_numpy(split.labels[indices])


def normalise(images: Tensor, data: DataSplits) -> Tensor:
    """Images [N, C, r, r] in 0..255 to three channels with the dataset's mean and standard deviation."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (data.mean, data.std))
    images = (images * (1 / (255 * std))).add_(-mean / std)  # (images / 255 - mean) / std in two passes
    return images.contiguous(memory_format=torch.channels_last)  # the layout in which convolutions are fast
