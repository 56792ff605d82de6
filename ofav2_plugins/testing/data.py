"""Contract tests of datasets."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..augmentation.base import Augmentation, BatchContext, augment
from ..data.base import Dataset
from ..errors import UserError


def check_dataset(plugin: Dataset) -> None:
    """Check that the splits are valid, or, if the dataset needs a root, that the error is one line."""
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


def check_augmentation(plugin: Augmentation) -> None:
    """Check shapes and labels at several sizes, reproducibility from seeds, and that global state is unchanged."""
    generator = torch.Generator().manual_seed(0)
    for channels, side, resolution in ((3, 16, 12), (1, 12, 12)):
        images = 255 * torch.rand(6, channels, side, side, generator=generator)
        labels, before = torch.arange(6) % 4, torch.get_rng_state()
        context = BatchContext(6, slice(0, 6), resolution, 4, (0, "contract"))
        got, targets = augment(images.clone(), labels, [plugin], context)
        again, _ = augment(images.clone(), labels, [plugin], context)
        assert got.shape == (6, channels, resolution, resolution), f"{plugin.name}: images are {list(got.shape)}"
        assert got.dtype == images.dtype, f"{plugin.name}: images must stay {images.dtype}, but got {got.dtype}"
        assert got.min() >= -1e-3 and got.max() <= 255.001, f"{plugin.name}: images must stay in 0..255"
        assert torch.equal(got, again), f"{plugin.name}: the same seeds must give the same images"
        assert torch.equal(torch.get_rng_state(), before), f"{plugin.name} must not use torch's global generator"
        _check_crops(plugin, context)
        if targets.ndim == 1:
            assert torch.equal(targets, labels), f"{plugin.name}: labels must stay, or be probabilities [N, n_classes]"
        else:
            assert targets.shape == (6, 4) and torch.allclose(targets.sum(1), torch.ones(6)), (
                f"{plugin.name}: labels must be probabilities [N, n_classes]"
            )


def _check_crops(plugin: Augmentation, context: BatchContext) -> None:
    """Check that crops of image files are inside the images, and that each rank gets the crops of its own part."""
    sizes = np.array([(16, 16), (40, 30), (30, 40), (200, 20), (17, 90), (1, 1)])
    crops = plugin.crops(sizes, context)
    if crops is None:
        return
    assert crops.shape == (6, 5), f"{plugin.name}: crops must be [6, 5], but got {list(crops.shape)}"
    assert (crops[:, :2] > 0).all() and (crops[:, 2:4] >= 0).all(), f"{plugin.name}: crops must not be empty"
    assert (crops[:, :2] + crops[:, 2:4] <= 1 + 1e-6).all(), f"{plugin.name}: crops must lie inside the images"
    part = plugin.crops(sizes[2:5], replace(context, part=slice(2, 5)))
    assert part is not None and torch.equal(part, crops[2:5]), (
        f"{plugin.name}: the crops of a rank must be those of its part of the batch"
    )


def _check_missing(plugin: Dataset, folder: Path) -> None:
    try:
        plugin.load(folder)
    except UserError as error:
        assert str(folder) in str(error), f"{plugin.name}: the error must name the missing folder, but got {error}"
        return
    raise AssertionError(f"{plugin.name} must raise a UserError for a missing root")
