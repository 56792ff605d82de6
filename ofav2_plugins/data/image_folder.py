"""Dataset `image-folder`: the user's own images, one folder per class."""

from __future__ import annotations

import logging
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
    check_per_class,
    choose_per_class,
    existing_folder,
    make_splits,
    stratified_split,
)
from .decode import BROKEN, decode, image_files
from .streamed import StreamedImages

TEST_FRACTION = 0.2
LARGEST = 256
CACHED_BYTES = 32 * 2**30
"""Maximum size of decoded images in bytes that is cached by default."""


class ImageFolder(Dataset):
    """Your own images: ROOT/<class>/*, or ROOT/train/<class>/* together with ROOT/test, ROOT/val or both.

    With train/, the test set is test/ and the validation set is val/ (or validation/), so no training images are held
    out. If there is no test/, val/ is the test set. Without train/, a fifth of each class is the test set.

    Images are decoded once into a cache of squares, or every time they are read if the cache would be too large
    (streaming). Evaluation gives the same numbers either way. In training, streaming takes the random crops from the
    whole photograph instead of its centre square.

    Args:
        per_class: Number of training images used per class, chosen at random with the seed of `load`;
            validation images are held out from them unless there is a validation folder. None: all.
        streaming: Whether to decode images whenever they are read. None: only if all decoded images would take more
            than 32 GiB.
    """

    def __init__(self, per_class: int | None = None, streaming: bool | None = None):
        check_per_class(per_class)
        self.per_class, self.streaming = per_class, streaming

    def load(self, root: Path | None = None, *, validation_fraction: float = 0.15, seed: int = 0) -> DataSplits:
        folder = existing_folder(root, self.name, "one folder of images per class")
        validation_files = None
        if (folder / "train").is_dir():
            train_files, classes = class_files(folder / "train")
            test_folder, validation_folder = _test_and_validation_folders(folder)
            test_files = _of_classes(test_folder, classes)
            validation_files = _of_classes(validation_folder, classes) if validation_folder else None
        else:
            files, classes = class_files(folder)
            labels = np.array([label for _, label in files])
            kept, out = stratified_split(labels, TEST_FRACTION, seed)
            train_files, test_files = [files[i] for i in kept], [files[i] for i in out]
        train_files, _ = choose_per_class(train_files, self.per_class, classes, seed)
        size = storage_size([path for path, _ in train_files])
        top = size // 4 * 4
        lowest = max(4, round(0.75 * top / 4) * 4)
        streaming = self._streams(len(train_files) + len(test_files) + len(validation_files or []), size)

        def split(files: list[tuple[Path, int]]) -> Split:
            paths, labels = [path for path, _ in files], np.array([label for _, label in files], dtype=np.int64)
            return Split(StreamedImages(folder, paths, size) if streaming else decode(paths, size), labels)

        return make_splits(
            self.name,
            split(train_files),
            split(test_files),
            class_names=classes,
            resolutions=sorted({round(r / 4) * 4 for r in np.linspace(lowest, top, 5)}),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            validation_fraction=validation_fraction,
            seed=seed,
            validation=split(validation_files) if validation_files else None,
        )

    def _streams(self, n_images: int, size: int) -> bool:
        if self.streaming is not None:
            return self.streaming
        n_bytes = n_images * 3 * size**2
        if n_bytes > CACHED_BYTES:
            logging.getLogger(__name__).warning(
                "%s: %d images would take %.0f GiB when decoded, so they are decoded whenever they are read "
                "(streaming: true); set streaming: false to decode them once into a cache",
                self.name, n_images, n_bytes / 2**30,
            )  # fmt: skip
        return n_bytes > CACHED_BYTES


def class_files(folder: Path) -> tuple[list[tuple[Path, int]], list[str]]:
    """(file, label) of every image below a folder of class folders, and the classes' names, sorted.

    Raises:
        UserError: Fewer than 2 classes, a broken link, a class folder without images, or one that cannot be read.
    """
    try:
        visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from error
    for path in visible:
        if path.is_symlink() and not path.exists():  # to itself, or to a file that was removed
            raise UserError(f"{path} is a broken link; remove it")
    classes = [path.name for path in visible if path.is_dir()]
    if len(classes) < 2:
        raise UserError(f"{folder} must have at least 2 class folders, but got {classes}")
    return [(p, i) for i, name in enumerate(classes) for p in image_files(folder / name)], classes


def _test_and_validation_folders(folder: Path) -> tuple[Path, Path | None]:
    """The folder of the test set and that of the validation set, if there is one."""
    test, validation = folder / "test", [folder / name for name in ("val", "validation") if (folder / name).is_dir()]
    if len(validation) > 1:
        raise UserError(
            f"{folder} must have val/ or validation/ next to train/, but got both; merge them or remove one"
        )
    if test.is_dir():
        return test, validation[0] if validation else None
    if not validation:
        raise UserError(f"{folder} must have test/, val/ or validation/ next to train/, but got none of them; add one")
    return validation[0], None


def _of_classes(folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """(file, label) of every image; the labels are positions in `classes`."""
    files, own = class_files(folder)
    extra = sorted(set(own) - set(classes))
    if extra:
        raise UserError(f"{folder} must have classes of {folder.parent / 'train'} only, but got {extra}; move them")
    labels = {name: label for label, name in enumerate(classes)}
    return [(path, labels[own[label]]) for path, label in files]


def storage_size(files: list[Path]) -> int:
    """The side of the stored images: the median of their shorter sides, at most 256, a multiple of 4."""
    sides = []
    for path in files[:: max(1, len(files) // 500)]:
        try:
            with Image.open(path) as image:
                sides.append(min(image.size))
        except BROKEN:
            continue  # `decode` names every broken file
    return max(32, min(LARGEST, int(np.median(sides)) // 4 * 4)) if sides else LARGEST
