"""Contract tests of datasets."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from ..data.base import Dataset
from ..errors import UserError


def check_dataset(plugin: Dataset) -> None:
    """A dataset that needs no root gives proper splits; one that needs it says so in one line."""
    try:
        splits = plugin.load()
    except UserError as error:
        assert "--root" in str(error), f"{plugin.name}: without a root the error must name --root, but got {error}"
        with tempfile.TemporaryDirectory() as empty:
            _check_missing(plugin, Path(empty) / "missing")
        return
    assert len(splits.train) > len(splits.validation) > 0, f"{plugin.name}: validation must be smaller than training"
    assert len(splits.test) > 0, f"{plugin.name} must have test images"
    for split in (splits.train, splits.validation, splits.test):
        images = split.pixels(np.arange(2))
        assert images.dtype == np.uint8, f"{plugin.name}: images must be uint8, but got {images.dtype}"
        assert images.ndim == 4 and images.shape[2] == images.shape[3], f"{plugin.name}: images must be [N, C, S, S]"
        assert images.shape[1] in (1, 3), f"{plugin.name}: images must have 1 or 3 channels, but got {images.shape[1]}"
        labels = split.labels
        assert labels.min() >= 0 and labels.max() < splits.n_classes, f"{plugin.name}: labels must be class numbers"
    again = plugin.load()
    assert again.fingerprint == splits.fingerprint, f"{plugin.name}: loading twice must give the same fingerprint"


def _check_missing(plugin: Dataset, folder: Path) -> None:
    try:
        plugin.load(folder)
    except UserError as error:
        assert str(folder) in str(error), f"{plugin.name}: the error must name the missing folder, but got {error}"
        return
    raise AssertionError(f"{plugin.name} must raise a UserError for a missing root")
