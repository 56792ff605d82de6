"""Dataset `image-folder`: the user's own images, one folder a class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UserError
from .base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Dataset,
    DataSplits,
    Split,
    existing_folder,
    make_splits,
    stratified_split,
)
from .decode import BROKEN, decode, image_files

TEST_FRACTION = 0.2
TEST_FOLDERS = ("test", "val", "validation")
LARGEST = 256


class ImageFolder(Dataset):
    """Your own images: ROOT/<class>/*, or ROOT/train/<class>/* with ROOT/test (or val) beside it."""

    def load(self, root: Path | None = None, *, validation_fraction: float = 0.15, seed: int = 0) -> DataSplits:
        folder = existing_folder(root, self.name, "one folder of images per class")
        if (folder / "train").is_dir():
            train_files, classes = class_files(folder / "train")
            test_folder = next((folder / n for n in TEST_FOLDERS if (folder / n).is_dir()), None)
            if test_folder is None:
                raise UserError(f"{folder} has train/ and so must have one of {', '.join(TEST_FOLDERS)} beside it")
            test_files, test_classes = class_files(test_folder)
            if set(test_classes) - set(classes):
                extra = sorted(set(test_classes) - set(classes))
                raise UserError(f"{test_folder} has classes that {folder / 'train'} has not: {extra}")
            test_files = [(path, classes.index(test_classes[label])) for path, label in test_files]
        else:
            files, classes = class_files(folder)
            labels = np.array([label for _, label in files])
            kept, out = stratified_split(labels, TEST_FRACTION, seed)
            train_files, test_files = [files[i] for i in kept], [files[i] for i in out]
        size = storage_size([path for path, _ in train_files])
        top = size // 4 * 4
        lowest = max(4, round(0.75 * top / 4) * 4)
        return make_splits(
            self.name,
            _split(train_files, size),
            _split(test_files, size),
            class_names=classes,
            resolutions=sorted({round(r / 4) * 4 for r in np.linspace(lowest, top, 5)}),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            validation_fraction=validation_fraction,
            seed=seed,
        )


def class_files(folder: Path) -> tuple[list[tuple[Path, int]], list[str]]:
    """(file, label) of every image below a folder of class folders, and the classes' names, sorted."""
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        raise UserError(f"{folder} must have at least 2 class folders, but got {classes}")
    return [(p, i) for i, name in enumerate(classes) for p in image_files(folder / name)], classes


def storage_size(files: list[Path]) -> int:
    """The side at which images are kept: the median of their shorter sides, at most 256, a multiple of 4."""
    sides = []
    for path in files[:: max(1, len(files) // 500)]:
        try:
            with Image.open(path) as image:
                sides.append(min(image.size))
        except BROKEN:
            continue  # `decode` names every broken file
    return max(32, min(LARGEST, int(np.median(sides)) // 4 * 4)) if sides else LARGEST


def _split(files: list[tuple[Path, int]], size: int) -> Split:
    labels = np.array([label for _, label in files], dtype=np.int64)
    return Split(decode([path for path, _ in files], size), labels)
