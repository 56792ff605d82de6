"""Image files that are decoded each time they are read, for datasets whose decoded images are too large to cache."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError
from .decode import BROKEN, crop_image, decode_image, upright_size

SAMPLES = 512
"""Number of files whose content is part of the fingerprint."""


class StreamedImages:
    """Image files with the interface and the values of the array uint8 [N, 3, side, side] that `decode` returns.

    The paths are one array of bytes, which worker processes share with the process that started them.

    Args:
        root: The folder of all files.
        files: Paths below `root`.
        side: Width and height in pixels at which whole images are read.
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, root: Path, files: Sequence[Path], side: int):
        self.root, self.side = root, side
        self._names = np.array([os.fsencode(path.relative_to(root)) for path in files], dtype=np.bytes_)

    def __len__(self) -> int:
        return len(self._names)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the array."""
        return len(self), 3, self.side, self.side

    def path(self, index: int) -> Path:
        """The file of an image."""
        return self.root / os.fsdecode(self._names[index])

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Whole images, uint8 [len(indices), 3, side, side]. Raises UserError, naming the file, for a broken one."""
        images = np.empty((len(indices), *self.shape[1:]), dtype=np.uint8)
        for image, index in zip(images, indices, strict=True):
            with _naming(self.path(index)) as path:
                image[:] = decode_image(path, self.side)
        return images

    def sizes(self, indices: np.ndarray) -> np.ndarray:
        """Width and height of each image in its file, int64 [len(indices), 2]; only the files' headers are read."""
        sizes = np.empty((len(indices), 2), dtype=np.int64)
        for size, index in zip(sizes, indices, strict=True):
            with _naming(self.path(index)) as path:
                size[:] = upright_size(path)
        return sizes

    def crops(self, indices: np.ndarray, crops: np.ndarray, resolution: int) -> np.ndarray:
        """Parts of images at a resolution, uint8 [len(indices), 3, resolution, resolution].

        Args:
            indices: The images.
            crops: [len(indices), 5], as `Augmentation.crops` gives them.
            resolution: In pixels. A JPEG file is decoded at 1/2, 1/4 or 1/8 of its size if its crop keeps
                `resolution` pixels.
        """
        images = np.empty((len(indices), 3, resolution, resolution), dtype=np.uint8)
        for image, index, crop in zip(images, indices, crops, strict=True):
            with _naming(self.path(index)) as path:
                image[:] = crop_image(path, crop, resolution)
        return images

    def joined(self, other: StreamedImages) -> StreamedImages:
        """The images of both, in order."""
        root = Path(os.path.commonpath([self.root, other.root]))
        files = [images.path(i) for images in (self, other) for i in range(len(images))]
        return StreamedImages(root, files, self.side)

    def content(self, indices: np.ndarray) -> Iterator[bytes]:
        """For the fingerprint: name and size of the images' files, and the bytes of 512 of them, evenly spread.

        Raises:
            UserError: A file cannot be read.
        """
        sampled = set(indices[np.linspace(0, len(indices) - 1, min(SAMPLES, len(indices)), dtype=int)].tolist())
        for index in indices.tolist():
            with _naming(self.path(index)) as path:
                yield self._names[index] + b"\0%d\0" % os.stat(path).st_size
                if index in sampled:
                    yield path.read_bytes()


class _naming:
    """Converts a failure to read an image file into a UserError that names the file."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, BROKEN):
            raise UserError(f"image {self.path} cannot be decoded ({error}); remove or replace it") from error
