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

from ..utils.seeding import derive_seed, python_rng, torch_rng
from .base import DataSplits, Split

MIN_SCALE = 0.85
RATIOS = (3 / 4, 4 / 3)  # smallest and largest width / height of a crop
ATTEMPTS = 10  # to draw a crop that fits


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
    min_scale: float = MIN_SCALE,
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
    for step in range(start_step, steps_per_epoch(len(order), batch_size)):
        indices = order[step * batch_size : (step + 1) * batch_size]
        resolution = sample_resolution(resolutions, seed, phase, epoch, step)
        crops = crop_parameters(len(indices), data.side, min_scale, flip, torch_rng(seed, phase, epoch, step, "crop"))
        mine = slice(rank * len(indices) // world_size, (rank + 1) * len(indices) // world_size)
        images = pixels(data.train, indices[mine])
        yield (
            normalise(random_crop(images, crops[mine], resolution, min_scale), data),
            labels_of(data.train, indices[mine]),
        )


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
    data: DataSplits, resolution: int, n_images: int, batch_size: int, seed: int, min_scale: float, flip: bool
) -> list[Tensor]:
    """Augmented training images [B, 3, r, r] for batch norms, at most `n_images` in all, `batch_size` in one.

    The batches are of equal size, give or take an image: in the mean of their statistics each counts the same.
    """
    order = np.random.default_rng(derive_seed(seed, "calibration")).permutation(len(data.train))[:n_images]
    batches = []
    for number, indices in enumerate(np.array_split(order, math.ceil(len(order) / batch_size))):
        rng = torch_rng(seed, "calibration", resolution, number)
        crops = crop_parameters(len(indices), data.side, min_scale, flip, rng)
        batches.append(normalise(random_crop(pixels(data.train, indices), crops, resolution, min_scale), data))
    return batches


def crop_parameters(n: int, side: int, min_scale: float, flip: bool, generator: torch.Generator) -> Tensor:
    """Random crops [n, 5]: width, height, left, top as fractions of the side, and -1 to mirror the image, else 1.

    Draws from the same distribution as torchvision's `RandomResizedCrop.get_params` for images of `side` x `side`
    pixels, for all images at once: area uniform in [min_scale, 1], log aspect ratio uniform in log [3/4, 4/3], sizes
    rounded to pixels; the first of 10 attempts that fits, or else the whole image.
    """
    # In numpy: on arrays this small, its operations take a third of the time of torch's.
    draws = torch.rand(n, 2 * ATTEMPTS + 3, generator=generator).double().numpy()
    area = side**2 * (min_scale + (1 - min_scale) * draws[:, :ATTEMPTS])  # [n, ATTEMPTS], as is the ratio
    low, high = np.log(RATIOS)
    ratio = np.exp(low + (high - low) * draws[:, ATTEMPTS : 2 * ATTEMPTS])
    sizes = np.full((2, n, ATTEMPTS + 1), side, dtype=np.float64)  # width and height; the last attempt always fits
    sizes[:, :, :ATTEMPTS] = np.sqrt([area * ratio, area / ratio]).round()
    first = ((sizes > 0) & (sizes <= side)).all(axis=0).argmax(axis=1)  # [n]; argmax gives the first maximum
    sizes = sizes[:, np.arange(n), first]  # [2, n]
    corners = np.floor((side - sizes + 1) * draws[:, -3:-1].T)  # uniform in 0 .. side - size
    mirrored = np.where(draws[:, -1:] < 0.5, -1, 1) if flip else np.ones((n, 1))
    return torch.from_numpy(np.hstack([sizes.T / side, corners.T / side, mirrored])).float()


def random_crop(images: Tensor, crops: Tensor, resolution: int, min_scale: float) -> Tensor:
    """Crop and resize a batch [N, C, S, S] to [N, C, resolution, resolution] by `crop_parameters` of `min_scale`."""
    # Sampling a much larger image bilinearly would alias: first shrink it (antialiased), all images alike for speed,
    # but only so far that the shortest side of any crop keeps `resolution` pixels. That side is sqrt(area / ratio)
    # with the largest ratio that fits, min(1 / area, 4 / 3): sqrt(area * max(area, 3 / 4)).
    size = math.ceil(resolution / math.sqrt(min_scale * max(min_scale, 3 / 4)))
    if images.shape[-1] > max(1.5 * resolution, size):
        images = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    # Where crops may be small that leaves the large ones too many pixels: average `finer` x `finer` samples of them.
    finer = math.ceil(images.shape[-1] / (1.5 * resolution))
    # The sampling points in grid_sample's -1..1, x and y apart: affine_grid would take ten times as long.
    centres = (2 * torch.arange(finer * resolution) + 1) / (finer * resolution) - 1
    width, height, left, top, mirrored = crops.T.unsqueeze(-1)
    x = width * mirrored * centres + 2 * left + width - 1
    y = height * centres + 2 * top + height - 1
    grid = torch.stack(torch.broadcast_tensors(x[:, None], y[:, :, None]), dim=-1)
    sampled = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return F.avg_pool2d(sampled, finer) if finer > 1 else sampled


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
