"""Torchvision transforms with separate random numbers for every image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..utils.seeding import forked_torch
from .base import BatchContext, to_uint8


def transform_each(images: Tensor, transform: Callable[[Tensor], Tensor], context: BatchContext) -> Tensor:
    """Transform every image separately.

    The transform may draw from torch's global generator, which is seeded for each image by its position in the batch
    of all ranks and restored afterwards.

    Args:
        images: float [N, C, S, S] in 0..255.
        transform: uint8 [C, S, S] to uint8 [C, S, S].
        context: The seeds and the rank's part.
    """
    places = range(context.n_images)[context.part]
    transformed = []
    for place, image in zip(places, to_uint8(images), strict=True):
        with forked_torch(*context.seed_parts, place):
            transformed.append(transform(image))
    return torch.stack(transformed).to(images.dtype)
