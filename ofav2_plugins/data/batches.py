"""Batches of images: elastic resolution and augmentation of whole batches, seeded by (seed, phase, epoch, step).

Images in memory or in the cache are read when a batch is needed; image files are decoded ahead by worker processes.

Source: OFA section 3 (elastic resolution).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..augmentation.base import Augmentation, BatchContext, augment
from ..augmentation.crop_flip import CropFlip
from ..utils.seeding import derive_seed, python_rng
from .base import DataSplits, Split
from .streamed import StreamedImages
from .workers import in_order, worker_count

Batch = TypeVar("Batch")


def sample_resolution(resolutions: Sequence[int], seed: int, phase: str, epoch: int, step: int) -> int:
    """The resolution of one batch in pixels, the same on all ranks."""
    return python_rng(seed, phase, epoch, step, "resolution").choice(list(resolutions))


def steps_per_epoch(n_images: int, batch_size: int) -> int:
    """Number of batches per epoch: a partial last batch is dropped unless it is the only one."""
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

    Labels are probabilities [B, n_classes] if an augmentation mixes them. Every batch depends only on (seed, phase,
    epoch, step), so an epoch may start at any step. Each rank takes its part of the global batch, with the crops that
    a single process would have drawn.

    Args:
        data: The splits.
        batch_size: Total over all ranks.
        resolutions: Elastic resolutions in pixels.
        seed: The run's seed.
        phase: Name of the step of the plan.
        epoch: From 0.
        start_step: The first batch to yield.
        rank: This process.
        world_size: Number of processes.
        augmentations: Applied in order.
    """
    order = np.random.default_rng(derive_seed(seed, phase, epoch, "order")).permutation(len(data.train))
    prepare = _TrainBatch(
        data.train, data.n_classes, order, batch_size, resolutions, (seed, phase, epoch), rank, world_size,
        augmentations,
    )  # fmt: skip
    steps = range(start_step, steps_per_epoch(len(order), batch_size))
    for images, labels in _read(prepare, steps, data.train):
        yield normalise(images, data), labels


@dataclass(frozen=True)
class _TrainBatch:
    """Prepares the training batches of one epoch by batch number; see `train_batches` for its fields."""

    split: Split
    n_classes: int
    order: np.ndarray
    batch_size: int
    resolutions: Sequence[int]
    epoch: tuple[int, str, int]
    rank: int
    world_size: int
    augmentations: Sequence[Augmentation]

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Images [B, C, r, r] in 0..255 and their labels."""
        indices = self.order[step * self.batch_size : (step + 1) * self.batch_size]
        mine = slice(
            self.rank * len(indices) // self.world_size,
            (self.rank + 1) * len(indices) // self.world_size,
        )
        resolution = sample_resolution(self.resolutions, *self.epoch, step)
        context = BatchContext(len(indices), mine, resolution, self.n_classes, (*self.epoch, step, "crop"))
        return augmented(self.split, indices[mine], self.augmentations, context)


def augmented(
    split: Split, indices: np.ndarray, augmentations: Sequence[Augmentation], context: BatchContext
) -> tuple[Tensor, Tensor]:
    """Images [N, C, r, r] in 0..255 of a split after the augmentations, and their labels.

    If the first augmentation crops, image files are cropped while they are decoded.
    """
    labels = labels_of(split, indices)
    if isinstance(split.images, StreamedImages) and augmentations:
        stored = split.stored(indices)
        crops = augmentations[0].crops(split.images.sizes(stored), context)
        if crops is not None:
            images = torch.from_numpy(split.images.crops(stored, crops.double().numpy(), context.resolution))
            if len(augmentations) == 1:
                return images, labels  # as uint8: a quarter of the bytes to transfer
            return augment(images.float(), labels, augmentations, context, first=1)
    return augment(pixels(split, indices), labels, augmentations, context)


def eval_batches(data: DataSplits, split: Split, resolution: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images [B, 3, r, r] and labels [B] in order: resized to ceil(r / 0.875), the centre r cropped."""
    size = math.ceil(resolution / 0.875)
    corner = round((size - resolution) / 2)
    prepare = partial(_eval_batch, split, batch_size)
    for images, labels in _read(prepare, range(math.ceil(len(split) / batch_size)), split):
        images = F.interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True, align_corners=False)
        images = images[:, :, corner : corner + resolution, corner : corner + resolution]
        yield normalise(images, data), labels


def _eval_batch(split: Split, batch_size: int, number: int) -> tuple[Tensor, Tensor]:
    """Images uint8 [B, C, S, S] of the batch with this number, and their labels."""
    indices = np.arange(number * batch_size, min((number + 1) * batch_size, len(split)))
    return torch.from_numpy(split.pixels(indices)), labels_of(split, indices)


def calibration_batches(
    data: DataSplits,
    resolution: int,
    n_images: int,
    batch_size: int,
    seed: int,
    augmentations: Sequence[Augmentation] = (CropFlip(),),
) -> list[Tensor]:
    """Augmented training images [B, 3, r, r] for batch norms, at most `n_images` in total, `batch_size` per batch.

    Only the geometric ones of `augmentations` are applied. Batch sizes differ by at most one image, so each batch
    has the same weight in the mean of the statistics.
    """
    order = np.random.default_rng(derive_seed(seed, "calibration")).permutation(len(data.train))[:n_images]
    geometric = [augmentation for augmentation in augmentations if augmentation.geometric]
    batches = np.array_split(order, math.ceil(len(order) / batch_size))
    prepare = _CalibrationBatch(data.train, data.n_classes, batches, resolution, seed, geometric)
    return [normalise(images, data) for images in _read(prepare, range(len(batches)), data.train)]


@dataclass(frozen=True)
class _CalibrationBatch:
    """Prepares batches for batch-norm calibration by batch number; see `calibration_batches`."""

    split: Split
    n_classes: int
    batches: Sequence[np.ndarray]
    resolution: int
    seed: int
    augmentations: Sequence[Augmentation]

    def __call__(self, number: int) -> Tensor:
        """Images [B, C, r, r] in 0..255."""
        indices = self.batches[number]
        seed_parts = (self.seed, "calibration", self.resolution, number)
        context = BatchContext(len(indices), slice(0, len(indices)), self.resolution, self.n_classes, seed_parts)
        return augmented(self.split, indices, self.augmentations, context)[0]


def _read(prepare: Callable[[int], Batch], numbers: range, split: Split) -> Iterator[Batch]:
    """The batches with these numbers; image files are decoded by worker processes."""
    return in_order(prepare, numbers, worker_count() if isinstance(split.images, StreamedImages) else 0)


def pixels(split: Split, indices: np.ndarray) -> Tensor:
    """Images of a split as float [N, C, S, S] in 0..255."""
    return torch.from_numpy(split.pixels(indices)).float()


def labels_of(split: Split, indices: np.ndarray) -> Tensor:
    """Labels of a split as int64 [N]."""
    return torch.from_numpy(split.labels[indices])


def normalise(images: Tensor, data: DataSplits) -> Tensor:
    """Normalise images [N, C, r, r] in 0..255, float or uint8, to three channels by the dataset's mean and std."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (data.mean, data.std))
    images = (images * (1 / (255 * std))).add_(-mean / std)  # (images / 255 - mean) / std in two passes
    return images.contiguous(memory_format=torch.channels_last)  # the layout in which convolutions are fast
