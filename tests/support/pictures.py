"""Image files for the tests of this folder, and what a split holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ofav2_plugins.data.base import Split


def paint(path: Path, color, size=(64, 64), mode="RGB", **save) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, **save)
    return path


def photograph(size: tuple[int, int], seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def images_of(split: Split) -> np.ndarray:
    """All images of a split, in its order."""
    return split.pixels(np.arange(len(split)))
