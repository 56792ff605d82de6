"""Contract of `ofav2.augmentations`, and their application in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..plugin import Plugin


@dataclass(frozen=True)
class BatchContext:
    """Inputs of an augmentation besides the images and labels.

    Args:
        n_images: Number of images in the batch, of all ranks together.
        part: The images of this rank within the batch.
        resolution: The resolution of the batch in pixels.
        n_classes: Number of classes.
        seed_parts: The seed of all random numbers (see `utils.seeding`), so that a batch is the same in every run with
            the same seed, including runs that resume within an epoch.
    """

    n_images: int
    part: slice
    resolution: int
    n_classes: int
    seed_parts: tuple[object, ...]


class Augmentation(Plugin, ABC):
    """A training transform of a batch of images and labels."""

    geometric: bool = False
    """Whether batch-norm recalibration also uses this augmentation: true if it changes only position, scale and
    orientation, not colours or labels."""

    @abstractmethod
    def apply(self, images: Tensor, labels: Tensor, context: BatchContext) -> tuple[Tensor, Tensor]:
        """The transformed images and labels.

        With several ranks, each image must be transformed as in a single process (draw for all `n_images`, apply to
        `part`), except when images of a batch are mixed.

        Args:
            images: float [N, C, S, S] in 0..255, this rank's part of the batch; S is the stored size or `resolution`.
            labels: int64 [N], or float [N, n_classes] after an augmentation that mixes labels.
            context: Resolution, number of classes, seeds, the rank's part.

        Returns:
            Images [N, C, S', S'] in 0..255 (resized to `resolution` after the last augmentation if S' differs), and
            labels [N] or probabilities [N, n_classes].
        """

    def crops(self, sizes: np.ndarray, context: BatchContext) -> Tensor | None:
        """Crops that replace `apply` for image files that are decoded for each batch.

        Called only for the first augmentation. Decoding is faster, and crops come from the whole photograph. By default
        (None) there are no crops, and `apply` receives the centre squares of the images.

        Args:
            sizes: int64 [N, 2], width and height of the images of this rank, in pixels.
            context: Resolution, seeds, the rank's part.

        Returns:
            [N, 5]: width, height, left and top as fractions of the image's sides, and -1 to mirror the image, else 1.
        """
        return None


def augment(
    images: Tensor, labels: Tensor, augmentations: Sequence[Augmentation], context: BatchContext, first: int = 0
) -> tuple[Tensor, Tensor]:
    """Apply augmentations in order, then resize to the batch's resolution if none of them did.

    Args:
        images: float [N, C, S, S] in 0..255.
        labels: int64 [N].
        augmentations: In order; each one after the first uses its own seed.
        context: Resolution, number of classes, seeds, the rank's part.
        first: Index of the first augmentation to apply; earlier ones have already been applied.
    """
    for number, augmentation in list(enumerate(augmentations))[first:]:
        seed_parts = (*context.seed_parts, number) if number else context.seed_parts
        images, labels = augmentation.apply(images, labels, replace(context, seed_parts=seed_parts))
    return resize(images, context.resolution), labels


def resize(images: Tensor, resolution: int) -> Tensor:
    """Images [N, C, S, S] resized to [N, C, resolution, resolution], bilinear with antialiasing."""
    if images.shape[-1] == resolution:
        return images
    size = (resolution, resolution)
    return F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)


def to_uint8(images: Tensor) -> Tensor:
    """Images in 0..255 rounded to uint8, as torchvision's colour transforms expect them."""
    return images.round().clamp(0, 255).to(torch.uint8)
