"""Augmentation `crop_flip`: random resized crop and horizontal flip, for all images of a batch at once.

Source: the authors' augmentation for Tiny ImageNet; torchvision's RandomResizedCrop and RandomHorizontalFlip.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..utils.seeding import torch_rng
from .base import Augmentation, BatchContext

RATIOS = (3 / 4, 4 / 3)  # smallest and largest width / height of a crop
ATTEMPTS = 10  # to draw a crop that fits


class CropFlip(Augmentation):
    """Random resized crop to the batch's resolution, and horizontal flip of half of the images.

    Args:
        min_scale: Smallest fraction of the area that a crop keeps.
        flip: Whether to flip.
    """

    geometric = True

    def __init__(self, min_scale: float = 0.85, flip: bool = True):
        if not 0 < min_scale <= 1:
            raise ValueError(f"min_scale must be above 0 and at most 1, but got {min_scale}")
        self.min_scale, self.flip = min_scale, flip

    def apply(self, images: Tensor, labels: Tensor, context: BatchContext) -> tuple[Tensor, Tensor]:
        """Images [N, C, S, S] to [N, C, resolution, resolution]; the labels are unchanged."""
        generator = torch_rng(*context.seed_parts)
        crops = crop_parameters(context.n_images, images.shape[-1], self.min_scale, self.flip, generator)
        return random_crop(images, crops[context.part], context.resolution, self.min_scale), labels

    def crops(self, sizes: np.ndarray, context: BatchContext) -> Tensor:
        """The crops [N, 5] of images of these sizes [N, 2]."""
        sides = np.ones((context.n_images, 2), dtype=np.int64)
        sides[context.part] = sizes
        generator = torch_rng(*context.seed_parts)
        return crop_parameters(context.n_images, sides, self.min_scale, self.flip, generator)[context.part]


def crop_parameters(
    n: int, sides: int | np.ndarray, min_scale: float, flip: bool, generator: torch.Generator
) -> Tensor:
    """Random crops [n, 5]: width, height, left, top as fractions of the sides, and -1 to mirror the image, else 1.

    Draws from the same distribution as torchvision's `RandomResizedCrop.get_params`, for all images at once: area
    uniform in [min_scale, 1], log aspect ratio uniform in log [3/4, 4/3], sizes rounded to pixels; the first of 10
    attempts that fits is used, otherwise the largest centred crop with an allowed ratio (for square images: the whole
    image).

    Args:
        n: Number of images.
        sides: Width and height in pixels, [n, 2], or one number for all.
        min_scale: Smallest fraction of the area that a crop keeps.
        flip: Whether to mirror half of the images.
        generator: The random generator; the number of draws does not depend on the sizes.
    """
    # NumPy is three times as fast as torch on arrays of this size.
    draws = torch.rand(n, 2 * ATTEMPTS + 3, generator=generator).double().numpy()
    wide, high = whole = np.broadcast_to(sides, (n, 2)).T.astype(np.float64)  # [2, n]
    area = (wide * high)[:, None] * (min_scale + (1 - min_scale) * draws[:, :ATTEMPTS])  # [n, ATTEMPTS]
    least, most = np.log(RATIOS)
    ratio = np.exp(least + (most - least) * draws[:, ATTEMPTS : 2 * ATTEMPTS])  # [n, ATTEMPTS]
    sizes = np.empty((2, n, ATTEMPTS + 1))
    sizes[:, :, :ATTEMPTS] = np.sqrt([area * ratio, area / ratio]).round()
    sizes[:, :, ATTEMPTS] = np.minimum(whole, [(high * RATIOS[1]).round(), (wide / RATIOS[0]).round()])
    first = ((sizes > 0) & (sizes <= whole[:, :, None])).all(axis=0).argmax(axis=1)  # [n]; the first that fits
    sizes = sizes[:, np.arange(n), first]  # [2, n]
    corners = np.floor((whole - sizes + 1) * draws[:, -3:-1].T)  # uniform in 0 .. side - size
    corners = np.where(first == ATTEMPTS, (whole - sizes) // 2, corners)
    mirrored = np.where(draws[:, -1:] < 0.5, -1, 1) if flip else np.ones((n, 1))
    return torch.from_numpy(np.hstack([(sizes / whole).T, (corners / whole).T, mirrored])).float()


def random_crop(images: Tensor, crops: Tensor, resolution: int, min_scale: float) -> Tensor:
    """Crop and resize a batch [N, C, S, S] to [N, C, resolution, resolution] with crops from `crop_parameters`."""
    # Bilinear sampling of a much larger image would alias. First shrink all images by the same factor (antialiased),
    # but only until the shortest side of any crop has `resolution` pixels. That side is sqrt(area / ratio) with the
    # largest ratio that fits, min(1 / area, 4 / 3): sqrt(area * max(area, 3 / 4)).
    size = math.ceil(resolution / math.sqrt(min_scale * max(min_scale, 3 / 4)))
    if images.shape[-1] > max(1.5 * resolution, size):
        images = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    # If crops may be small, the large ones still have too many pixels: average `finer` x `finer` samples of them.
    finer = math.ceil(images.shape[-1] / (1.5 * resolution))
    # The sampling points in grid_sample's range -1..1, x and y separately: affine_grid is ten times slower.
    centres = (2 * torch.arange(finer * resolution) + 1) / (finer * resolution) - 1
    width, height, left, top, mirrored = crops.T.unsqueeze(-1)
    x = width * mirrored * centres + 2 * left + width - 1
    y = height * centres + 2 * top + height - 1
    grid = torch.stack(torch.broadcast_tensors(x[:, None], y[:, :, None]), dim=-1)
    sampled = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return F.avg_pool2d(sampled, finer) if finer > 1 else sampled
