"""Batches from uint8 arrays: elastic resolution and augmentation on whole batches, by (seed, phase, epoch, step).

Source: OFA section 3 (elastic resolution); the authors' augmentation: random resized crop, horizontal flip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from ..seeding import derive_seed, python_rng, torch_rng
from .base import DataSplits, Split

CHUNK_BYTES = 2**22  # of float pixels augmented at once: large images would not stay in the processor's cache


def sample_resolution(resolutions: Sequence[int], seed: int, phase: str, epoch: int, step: int) -> int:
    """The resolution of one batch in pixels, the same on all ranks."""
    return python_rng(seed, phase, epoch, step, "resolution").choice(list(resolutions))


def steps_per_epoch(n_images: int, batch_size: int, world_size: int = 1) -> int:
    """Batches of an epoch, each of `batch_size` images of all ranks together.

    The last partial one is dropped, unless it is the only one.

    Raises:
        UserError: A batch has fewer images than there are ranks, so that one of them would get none.
    """
    if min(n_images, batch_size) < world_size:
        raise UserError(
            f"a batch must have at least one image for each of {world_size} processes, "
            f"but got {min(n_images, batch_size)} image(s); raise the batch size or start fewer processes"
        )
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
    min_scale: float = 0.85,
    flip: bool = True,
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of augmented training batches: images [B, 3, r, r] and labels [B], r drawn per batch.

    Every batch depends on (seed, phase, epoch, step) alone, so an epoch may start at any step. With several
    ranks each takes its part of the global batch, with the crops that a single process would have drawn.

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
        min_scale: Smallest share of the area that a crop keeps.
        flip: Mirror half of the images.
    """
    order = np.random.default_rng(derive_seed(seed, phase, epoch, "order")).permutation(len(data.train))
    for step in range(start_step, steps_per_epoch(len(order), batch_size, world_size)):
        indices = order[step * batch_size : (step + 1) * batch_size]
        resolution = sample_resolution(resolutions, seed, phase, epoch, step)
        crops = crop_parameters(len(indices), min_scale, flip, torch_rng(seed, phase, epoch, step, "crop"))
        mine = slice(rank * len(indices) // world_size, (rank + 1) * len(indices) // world_size)
        yield augmented(data, indices[mine], crops[mine], resolution), labels_of(data.train, indices[mine])


def eval_batches(data: DataSplits, split: Split, resolution: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images [B, 3, r, r] and labels [B] in order: resized to ceil(r / 0.875), the centre r cropped."""
    size = math.ceil(resolution / 0.875)
    corner = round((size - resolution) / 2)
    for start in range(0, len(split), batch_size):
        indices = np.arange(start, min(start + batch_size, len(split)))
        images = to_float(split.images[indices])
        images = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
        images = images[:, :, corner : corner + resolution, corner : corner + resolution]
        yield normalise(images, data), labels_of(split, indices)


def calibration_batches(data: DataSplits, resolution: int, n_images: int, batch_size: int, seed: int) -> list[Tensor]:
    """Augmented training images [B, 3, r, r] for batch norms, at most `n_images` in all."""
    order = np.random.default_rng(derive_seed(seed, "calibration")).permutation(len(data.train))[:n_images]
    batches = []
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        crops = crop_parameters(len(indices), 0.85, True, torch_rng(seed, "calibration", resolution, start))
        batches.append(augmented(data, indices, crops, resolution))
    return batches


def augmented(data: DataSplits, indices: np.ndarray, crops: Tensor, resolution: int) -> Tensor:
    """Training images [N, 3, resolution, resolution], cropped by `crop_parameters` [N, 5], normalised."""
    stored = data.train.images[indices]
    n = max(1, CHUNK_BYTES // (4 * stored[0].size))
    parts = [
        normalise(random_crop(to_float(stored[start : start + n]), crops[start : start + n], resolution), data)
        for start in range(0, len(stored), n)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def crop_parameters(n: int, min_scale: float, flip: bool, generator: torch.Generator) -> Tensor:
    """Random crops [n, 5]: width, height, left, top as shares of the side, and whether to mirror (-1 or 1).

    Area share uniform in [min_scale, 1], log aspect ratio uniform in [3/4, 4/3] (torchvision's
    RandomResizedCrop), sides clamped to the image.
    """
    draws = torch.rand(n, 5, generator=generator)
    area = min_scale + (1 - min_scale) * draws[:, 0]
    ratio = torch.exp((2 * draws[:, 1] - 1) * math.log(4 / 3))
    width = (area * ratio).sqrt().clamp(max=1)
    height = (area / ratio).sqrt().clamp(max=1)
    left, top = (1 - width) * draws[:, 2], (1 - height) * draws[:, 3]
    mirrored = torch.where(draws[:, 4] < 0.5, -1.0, 1.0) if flip else torch.ones(n)
    return torch.stack([width, height, left, top, mirrored], dim=1)


def random_crop(images: Tensor, crops: Tensor, resolution: int) -> Tensor:
    """Crop and resize a batch [N, C, S, S] to [N, C, resolution, resolution] by `crop_parameters`."""
    if images.shape[-1] > 1.5 * resolution:
        # Sampling a much larger image bilinearly would alias: first come near the crop's own scale.
        size = round(1.1 * resolution)
        images = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    width, height, left, top, mirrored = crops.unbind(1)
    # As F.affine_grid, to the bit, in a fifth of the time: a crop neither rotates nor shears.
    centres = torch.linspace(-1, 1, resolution) * (resolution - 1) / resolution
    x = (width * mirrored)[:, None] * centres + (2 * left + width - 1)[:, None]
    y = height[:, None] * centres + (2 * top + height - 1)[:, None]
    shape = (len(images), resolution, resolution)
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=-1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def to_float(images: np.ndarray) -> Tensor:
    """Images uint8 [N, C, S, S] as float32 in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(images)).float().div_(255)


def labels_of(split: Split, indices: np.ndarray) -> Tensor:
    """Labels of a split as int64 [N]."""
    return torch.from_numpy(np.ascontiguousarray(split.labels[indices]))


def normalise(images: Tensor, data: DataSplits) -> Tensor:
    """Images [N, C, r, r] in 0..1 to three channels with the dataset's mean and standard deviation."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (data.mean, data.std))
    images = (images.expand(-1, 3, -1, -1) - mean) / std
    return images.contiguous(memory_format=torch.channels_last)  # the layout in which convolutions are fast
