"""Predictions of a bundle for image files. No torch here: ONNX Runtime can work without it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.decode import SUFFIXES
from ..errors import UserError
from .bundle import BundleRunner


@dataclass(frozen=True)
class Prediction:
    """The answer of a bundle for an image.

    Args:
        image: The file.
        classes: The most probable classes with their probabilities, the most probable first.
        exit: The exit that answered, by the stage that it follows.
        milliseconds: Time in the network, per image of the batch.
    """

    image: Path
    classes: list[tuple[str, float]]
    exit: int
    milliseconds: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {**asdict(self), "image": str(self.image)}


def expand(paths: Sequence[Path]) -> list[Path]:
    """Image files, and the image files directly in folders, sorted by name.

    Raises:
        UserError: A path is missing, or a folder has no images or cannot be read.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UserError(f"image {path} does not exist; give image files or folders of them")
        files += _images_in(path) if path.is_dir() else [path]
    return files


def _images_in(folder: Path) -> list[Path]:
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.is_dir())
    except OSError as error:
        raise UserError(f"folder {folder} cannot be read: {error.strerror}") from error
    if not found:
        raise UserError(f"folder {folder} must have images ({', '.join(SUFFIXES)}), but has none")
    return found


def predict(
    runner: BundleRunner, files: Sequence[Path], batch_size: int = 1, top: int = 5
) -> Iterator[Prediction | UserError]:
    """The prediction for each file, in order; an error for a file that cannot be read.

    Args:
        runner: The bundle in a format.
        files: Image files of any sizes.
        batch_size: Images that go through the network at once.
        top: Number of classes.
    """
    config = runner.bundle.config
    blank = np.zeros((1, 3, config.resolution, config.resolution), dtype=np.float32)
    runner.answer(blank)  # the first call loads and warms up
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files), batch_size):
            part = files[start : start + batch_size]
            loaded = list(pool.map(lambda path: _load(runner, path), part))
            images = [x for x in loaded if not isinstance(x, UserError)]
            predictions = iter(_answer(runner, images, top)) if images else iter(())
            for path, x in zip(part, loaded, strict=True):
                yield x if isinstance(x, UserError) else Prediction(path, *next(predictions))


def _load(runner: BundleRunner, path: Path) -> np.ndarray | UserError:
    try:
        return runner.bundle.config.preprocessing(path)
    except UserError as error:
        return error


def _answer(
    runner: BundleRunner, images: Sequence[np.ndarray], top: int
) -> Iterator[tuple[list[tuple[str, float]], int, float]]:
    batch = np.stack(images)
    started = time.perf_counter()
    answers = runner.answer(batch)
    milliseconds = 1e3 * (time.perf_counter() - started) / len(batch)
    config = runner.bundle.config
    for probabilities, position in zip(answers.probabilities, answers.exits, strict=True):
        order = np.argsort(-probabilities, kind="stable")[:top]
        classes = [(config.class_names[i], float(probabilities[i])) for i in order]
        yield classes, config.exits[position].number, milliseconds
