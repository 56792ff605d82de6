"""Dataset `tiny-imagenet` in its original layout; its official validation set is the test set (OFAv2 section 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import UserError
from .base import Dataset, DataSplits, Split, check_per_class, choose_per_class, existing_folder, make_splits
from .decode import decode, image_files

SIZE = 64


class TinyImageNet(Dataset):
    """Tiny ImageNet: 200 classes of 500 images of 64 pixels (or as many of the classes as there are).

    Args:
        per_class: Number of images per class for training and validation, chosen at random with the seed of `load`;
            None: all images of the training folder.
        test: "official": the official validation set is the test set (OFAv2 section 4). "rest": the test set also
            includes the images of the training folder that `per_class` does not choose.
    """

    def __init__(self, per_class: int | None = None, test: Literal["official", "rest"] = "official"):
        check_per_class(per_class)
        self.per_class, self.test = per_class, test

    def load(self, root: Path | None = None, *, validation_fraction: float = 0.15, seed: int = 0) -> DataSplits:
        hint = "train/, val/ and wnids.txt of Tiny ImageNet (tiny-imagenet-200.zip from cs231n.stanford.edu)"
        folder = existing_folder(root, self.name, hint)
        for part in ("train", "val/val_annotations.txt", "wnids.txt"):
            if not (folder / part).exists():
                raise UserError(f"--root must be the folder with {hint}, but {folder} has no {part}")
        wnids = [wnid for wnid in _lines(folder / "wnids.txt") if (folder / "train" / wnid).is_dir()]
        if not wnids:
            raise UserError(f"{folder / 'train'} has no folder of any class in {folder / 'wnids.txt'}")
        label_of = {wnid: label for label, wnid in enumerate(wnids)}
        files = [(path, label) for wnid, label in label_of.items()
                 for path in image_files(folder / "train" / wnid / "images")]  # fmt: skip
        train, rest = choose_per_class(files, self.per_class, wnids, seed)
        test = _annotated(folder / "val", label_of)
        return make_splits(
            self.name,
            _split(train),
            _split([*rest, *test] if self.test == "rest" else test),
            class_names=_names(folder / "words.txt", wnids),
            resolutions=(48, 52, 56, 60, 64),
            mean=(0.4802, 0.4481, 0.3975),
            std=(0.2770, 0.2691, 0.2821),
            validation_fraction=validation_fraction,
            seed=seed,
        )


def _split(files: list[tuple[Path, int]]) -> Split:
    labels = np.array([label for _, label in files], dtype=np.int64)
    return Split(decode([path for path, _ in files], SIZE), labels)


def _annotated(val: Path, label_of: dict[str, int]) -> list[tuple[Path, int]]:
    """(file, label) of the annotated images of known classes. Raises UserError for a missing image, naming the line."""
    annotations, files = val / "val_annotations.txt", []
    for number, line in enumerate(_text(annotations).splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) < 2:
            raise UserError(f"{annotations}, line {number}: must be a file name, a tab, a class, but got {line!r}")
        path = val / "images" / fields[0]
        if fields[1] in label_of:
            if not path.is_file():
                raise UserError(f"{annotations}, line {number}: lists {path}, which does not exist")
            files.append((path, label_of[fields[1]]))
    if not files:
        raise UserError(f"{annotations} lists no image of the classes in train/")
    return files


def _names(words: Path, wnids: list[str]) -> list[str]:
    """The classes' names in English; the wnids if words.txt is missing."""
    known = dict(line.split("\t", 1) for line in _lines(words) if "\t" in line) if words.exists() else {}
    return [known.get(wnid, wnid) for wnid in wnids]


def _lines(path: Path) -> list[str]:
    return [line for line in _text(path).splitlines() if line.strip()]


def _text(path: Path) -> str:
    """The content of a file. Raises UserError, naming it, if it cannot be read or is not UTF-8."""
    if path.exists() and not path.is_file():  # reading a named pipe would block forever
        raise UserError(f"{path} cannot be read: it is not a regular file; fetch it again")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        wrong = error.object[error.start]
        raise UserError(
            f"{path} must be text in UTF-8, but got byte 0x{wrong:02x} at position {error.start}; fetch it again"
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; fetch it again") from error
