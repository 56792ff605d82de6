"""From an image file to the network's input, equal to the evaluation transform of the training. No torch here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict

from ..data.base import DataSplits
from ..data.decode import BROKEN, decode_image
from ..errors import UserError


class Preprocessing(BaseModel):
    """The evaluation transform of a dataset at a resolution, as values that any language can apply.

    1. Decode to 8 bits in `mode`, turned upright by its EXIF orientation. Resize the shorter side to `stored` pixels
       (bilinear, antialiased) and crop the centre: the dataset stores its images in this form.
    2. Resize to `resize` x `resize` (bilinear, antialiased, in float) and crop the centre `crop` x `crop`.
    3. Divide by 255, subtract `mean` and divide by `std`, per channel; a gray image counts as three equal channels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["RGB", "L"]
    stored: int
    resize: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def of(cls, data: DataSplits, resolution: int) -> Preprocessing:
        """The transform with which `eval_batches` measures the images of a dataset."""
        channels, side, _ = data.train.shape
        mean, std = (tuple(np.broadcast_to(values, 3).tolist()) for values in (data.mean, data.std))
        return cls(
            mode="RGB" if channels == 3 else "L",
            stored=side,
            resize=math.ceil(resolution / 0.875),
            crop=resolution,
            mean=mean,
            std=std,
        )

    def __call__(self, path: Path) -> np.ndarray:
        """An image file as float32 [3, crop, crop].

        Raises:
            UserError: The file is missing or is not an image that Pillow can read.
        """
        try:
            return self.transform(decode_image(path, self.stored, self.mode))
        except BROKEN as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(f"image {path} cannot be read: {reason}; give a readable image file") from error

    def transform(self, pixels: np.ndarray) -> np.ndarray:
        """A stored image uint8 [C, stored, stored] as float32 [3, crop, crop]."""
        corner = round((self.resize - self.crop) / 2)
        area = slice(corner, corner + self.crop)
        channels = []
        for channel in pixels:
            image = Image.fromarray(channel.astype(np.float32))  # in float, as torch resizes
            resized = np.asarray(image.resize((self.resize, self.resize), Image.Resampling.BILINEAR))
            channels.append(resized[area, area])
        mean, std = (np.array(values, dtype=np.float32)[:, None, None] for values in (self.mean, self.std))
        return (np.stack(channels) / np.float32(255) - mean) / std
