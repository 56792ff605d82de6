"""Batches against torch's own resampling, torchvision's PIL transforms, and themselves cut up differently."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from support.pictures import images_of
from torchvision import transforms

from ofav2_plugins.augmentation.crop_flip import CropFlip, crop_parameters, random_crop
from ofav2_plugins.data.base import DataSplits, Split
from ofav2_plugins.data.batches import (
    calibration_batches,
    eval_batches,
    sample_resolution,
    steps_per_epoch,
    train_batches,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
UNCROPPED = [1.0, 1.0, 0.0, 0.0, 1.0]


def smooth_images(n: int, channels: int, side: int) -> np.ndarray:
    """Random low frequencies as uint8 [n, channels, side, side], as photographs have."""
    noise = torch.rand(n, channels, 6, 6, generator=torch.Generator().manual_seed(side))
    images = F.interpolate(noise, size=(side, side), mode="bicubic", align_corners=False).clamp(0, 1)
    return (255 * images).round().byte().numpy()


def make_data(n: int = 23, channels: int = 3, side: int = 20) -> DataSplits:
    """Splits whose training labels are the images' indices, so that the labels of a batch identify its images."""
    train = Split(smooth_images(n, channels, side), np.arange(n, dtype=np.int64))
    return DataSplits("made", train, train, train, ("a", "b"), (16, 20), MEAN, STD, "")


def epoch_of(data: DataSplits, **changes) -> list[tuple[torch.Tensor, torch.Tensor]]:
    settings = {
        "batch_size": 5,
        "resolutions": (12, 16, 20),
        "seed": 3,
        "phase": "kernel",
        "epoch": 1,
        **changes,
    }
    return list(train_batches(data, **settings))


def assert_same(got, wanted):
    assert len(got) == len(wanted)
    for (images, labels), (wanted_images, wanted_labels) in zip(got, wanted, strict=True):
        assert torch.equal(labels, wanted_labels)
        assert torch.equal(images, wanted_images)


def test_crop_of_everything_is_the_identity_at_the_same_resolution():
    images = torch.rand(4, 3, 17, 17)
    got = random_crop(images, torch.tensor([UNCROPPED] * 4), 17, 0.85)
    torch.testing.assert_close(got, images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("resolution", [16, 24, 31])
def test_crop_of_everything_is_a_bilinear_resize(resolution):
    images = torch.rand(4, 3, 20, 20)
    wanted = F.interpolate(images, size=(resolution, resolution), mode="bilinear", align_corners=False)
    got = random_crop(images, torch.tensor([UNCROPPED] * 4), resolution, 0.85)
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("min_scale", [0.08, 0.3, 0.85, 1])
def test_large_reductions_do_not_alias(min_scale):
    """A chessboard of single pixels is gray from afar; sampling it bilinearly would give black and white."""
    board = (torch.arange(64)[:, None] + torch.arange(64)[None, :]).remainder(2).float().expand(1, 3, 64, 64)
    got = random_crop(board, torch.tensor([UNCROPPED]), 16, min_scale)
    torch.testing.assert_close(got[..., 2:-2, 2:-2], torch.full((1, 3, 12, 12), 0.5), atol=0.05, rtol=0)


@pytest.mark.parametrize(("side", "resolution"), [(20, 16), (20, 20), (48, 16)])
def test_mirrored_crop_is_the_flip_of_the_unmirrored(side, resolution):
    images = torch.rand(6, 3, side, side)
    crops = crop_parameters(6, side, 0.5, False, torch.Generator().manual_seed(1))
    mirrored = crops.clone()
    mirrored[:, 4] = -1
    got, wanted = (random_crop(images, c, resolution, 0.5) for c in (mirrored, crops))
    torch.testing.assert_close(got, wanted.flip(-1), atol=1e-5, rtol=0)


def test_a_crop_contains_the_pixels_of_its_box():
    """Away from its border a crop is the cut-out rectangle, resized."""
    images = torch.rand(2, 3, 16, 16)
    got = random_crop(images, torch.tensor([[0.5, 0.25, 0.25, 0.5, 1.0]] * 2), 12, 0.125)
    wanted = F.interpolate(images[:, :, 8:12, 4:12], size=(12, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(got[:, :, 1:-1, 1:-1], wanted[:, :, 1:-1, 1:-1], atol=1e-5, rtol=0)


def boxes(crops: torch.Tensor, side: int) -> np.ndarray:
    """(left, top, width, height) of crops in pixels, int64 [n, 4]."""
    pixels = crops[:, [2, 3, 0, 1]].double().numpy() * side
    assert np.abs(pixels - pixels.round()).max() < 1e-4
    return pixels.round().astype(np.int64)


@given(seed=st.integers(0, 2**31), min_scale=st.floats(0.1, 1), side=st.integers(1, 256))
def test_crops_are_whole_pixels_inside_the_image(seed, min_scale, side):
    crops = crop_parameters(64, side, min_scale, True, torch.Generator().manual_seed(seed))
    left, top, width, height = boxes(crops, side).T
    for size, corner in ((width, left), (height, top)):
        assert (size > 0).all() and (corner >= 0).all() and (size + corner <= side).all()
    assert set(crops[:, 4].tolist()) == {-1.0, 1.0}


class Replayed:
    """Stands in for `torch` in torchvision's module: its draws are the given uniform numbers, one after the other."""

    def __init__(self, attempts: torch.Tensor, corners: torch.Tensor):
        self.attempts, self.corners = iter(attempts), iter(corners.flip(0))  # torchvision draws the top first

    def __getattr__(self, name: str):
        return getattr(torch, name)

    def empty(self, size: int) -> Replayed:
        return self

    def uniform_(self, low, high) -> torch.Tensor:
        return low + (high - low) * next(self.attempts)

    def randint(self, low: int, high: int, size: tuple[int]) -> torch.Tensor:
        return (next(self.corners) * high).long()


@pytest.mark.parametrize(("side", "min_scale"), [(64, 0.85), (64, 0.08), (28, 0.85), (7, 0.99), (3, 0.01)])
def test_with_the_same_draws_the_crops_are_those_of_torchvision(side, min_scale, monkeypatch):
    n, image, wanted = 500, torch.empty(3, side, side), []
    draws = torch.rand(n, 23, generator=torch.Generator().manual_seed(side))
    for row in draws:
        replayed = Replayed(row[:20].view(2, 10).T.reshape(-1), row[20:22])
        monkeypatch.setattr("torchvision.transforms.transforms.torch", replayed)
        top, left, height, width = transforms.RandomResizedCrop.get_params(image, [min_scale, 1.0], [3 / 4, 4 / 3])
        wanted.append([left, top, width, height])
    crops = crop_parameters(n, side, min_scale, True, torch.Generator().manual_seed(side))
    assert boxes(crops, side).tolist() == wanted
    assert ((crops[:, 4] == -1) == (draws[:, 22] < 0.5)).all()


@pytest.mark.parametrize(("side", "min_scale"), [(64, 0.85), (64, 0.3), (28, 0.85), (256, 0.08)])
def test_crops_are_distributed_as_those_of_torchvision(side, min_scale):
    n, image = 4000, torch.empty(3, side, side)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        drawn = [transforms.RandomResizedCrop.get_params(image, [min_scale, 1.0], [3 / 4, 4 / 3]) for _ in range(n)]
    top, left, height, width = np.array(drawn).T
    own_left, own_top, own_width, own_height = boxes(
        crop_parameters(n, side, min_scale, True, torch.Generator().manual_seed(2)), side
    ).T
    assert stats.ks_2samp(width * height, own_width * own_height).pvalue > 0.01
    assert stats.ks_2samp(width / height, own_width / own_height).pvalue > 0.01
    for corner, size, own_corner, own_size in (
        (left, width, own_left, own_width), (top, height, own_top, own_height),
    ):  # fmt: skip
        free, own_free = size < side, own_size < side
        assert stats.ks_2samp(
            corner[free] / (side - size[free]), own_corner[own_free] / (side - own_size[own_free])
        ).pvalue > 0.01  # fmt: skip


def test_the_mean_area_is_that_of_torchvision():
    """At scale >= 0.85 it is 0.905: large areas are drawn again more often because their ratio does not fit."""
    crops = crop_parameters(50_000, 64, 0.85, True, torch.Generator().manual_seed(3))
    assert (crops[:, 0] * crops[:, 1]).mean().item() == pytest.approx(0.905, abs=0.001)


@pytest.mark.parametrize("min_scale", [0.1, 0.3, 0.5, 0.75, 0.85])
def test_the_smallest_crop_is_as_sharp_as_its_resolution_allows(min_scale):
    """Stripes of 4 output pixels along the shortest side that a crop can have keep most of their contrast."""
    side, resolution = 256, 32
    short = math.sqrt(min_scale * max(min_scale, 0.75))
    crop = [short, min_scale / short, 0.0, 0.0, 1.0]
    waves = 8
    phase = 2 * math.pi * waves * (torch.arange(side) + 0.5) / (short * side)
    images = (0.5 + 0.5 * torch.cos(phase)).expand(1, 1, side, side)
    got = random_crop(images, torch.tensor([crop]), resolution, min_scale)[0, 0, 16, 2:-2]
    phase = 2 * math.pi * waves * (torch.arange(resolution) + 0.5) / resolution
    wanted = 0.5 + 0.5 * torch.cos(phase)[2:-2]
    assert (got - 0.5).norm() / (wanted - 0.5).norm() > 0.6
    assert F.cosine_similarity(got - 0.5, wanted - 0.5, dim=0) > 0.98


@pytest.mark.parametrize(("side", "resolution", "channels"), [(64, 48, 3), (64, 64, 3), (28, 24, 1), (96, 40, 3)])
def test_evaluation_pixels_are_those_of_torchvision_on_pil_images(side, resolution, channels):
    """Within two gray levels (PIL rounds to whole levels between its passes)."""
    data = make_data(5, channels, side)
    size = math.ceil(resolution / 0.875)
    reference = transforms.Compose(
        [
            transforms.Resize(size, transforms.InterpolationMode.BILINEAR),
            transforms.CenterCrop(resolution),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    pictures = [Image.fromarray(image.transpose(1, 2, 0).squeeze()).convert("RGB") for image in images_of(data.test)]
    wanted = torch.stack([reference(picture) for picture in pictures])
    batches = list(eval_batches(data, data.test, resolution, batch_size=2))
    assert [len(labels) for _, labels in batches] == [2, 2, 1]
    assert torch.cat([labels for _, labels in batches]).tolist() == [0, 1, 2, 3, 4]
    got = torch.cat([images for images, _ in batches])
    assert got.shape == (5, 3, resolution, resolution)
    levels = (got - wanted).abs() * torch.tensor(STD).view(1, 3, 1, 1) * 255
    assert levels.max() <= 2 and levels.mean() <= 0.5


@pytest.mark.parametrize("channels", [1, 3])
def test_an_uncropped_batch_is_the_images_normalised(channels):
    data = make_data(channels=channels)
    ((images, labels),) = epoch_of(
        data, batch_size=23, resolutions=(20,), augmentations=[CropFlip(min_scale=1.0, flip=False)]
    )
    mean, std = (np.array(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    wanted = (images_of(data.train)[labels.numpy()] / 255 - mean) / std
    assert np.abs(images.double().numpy() - wanted).max() < 1e-4
    assert images.shape == (23, 3, 20, 20) and images.is_contiguous(memory_format=torch.channels_last)


@given(start=st.integers(0, 4), seed=st.integers(0, 99), epoch=st.integers(0, 3))
def test_an_epoch_started_at_a_later_step_is_the_end_of_the_whole_epoch(start, seed, epoch):
    data = make_data()
    whole = epoch_of(data, seed=seed, epoch=epoch)
    assert len(whole) == 4
    assert_same(epoch_of(data, seed=seed, epoch=epoch, start_step=start), whole[start:])


@given(world_size=st.integers(1, 5), batch_size=st.integers(5, 9))
def test_the_parts_of_all_ranks_form_the_batch_of_a_single_process(world_size, batch_size):
    data = make_data()
    whole = epoch_of(data, batch_size=batch_size)
    ranks = [epoch_of(data, batch_size=batch_size, rank=r, world_size=world_size) for r in range(world_size)]
    for step, (images, labels) in enumerate(whole):
        parts = [rank[step] for rank in ranks]
        assert torch.equal(torch.cat([part[1] for part in parts]), labels)
        torch.testing.assert_close(torch.cat([part[0] for part in parts]), images, atol=1e-5, rtol=0)


def test_an_epoch_has_every_image_at_most_once_and_epochs_differ_in_order():
    data = make_data()
    orders = [torch.cat([labels for _, labels in epoch_of(data, epoch=e)]).tolist() for e in (0, 1)]
    for order in orders:
        assert len(order) == 20 and len(set(order)) == 20
    assert orders[0] != orders[1]
    assert orders[0] != torch.cat([labels for _, labels in epoch_of(data, epoch=0, phase="depth")]).tolist()


def test_all_resolutions_occur_and_each_batch_has_the_sampled_one():
    data = make_data()
    drawn = [sample_resolution((12, 16, 20), 3, "kernel", 1, step) for step in range(4)]
    assert [images.shape[-1] for images, _ in epoch_of(data)] == drawn
    assert {sample_resolution((12, 16, 20), 0, "full", 0, step) for step in range(50)} == {12, 16, 20}


def test_the_global_generators_do_not_change():
    data = make_data()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    first = epoch_of(data)
    calibration = calibration_batches(data, 16, 11, 4, seed=1)
    list(eval_batches(data, data.test, 16, 4))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert random.getstate() == before[2]
    torch.manual_seed(6), np.random.seed(6), random.seed(6)  # and they have no influence
    assert_same(epoch_of(data), first)
    again = calibration_batches(data, 16, 11, 4, seed=1)
    assert [len(batch) for batch in again] == [4, 4, 3]
    assert all(torch.equal(a, b) for a, b in zip(again, calibration, strict=True))


@pytest.mark.parametrize(("n_images", "batch_size", "steps"), [(10, 5, 2), (14, 5, 2), (4, 5, 1), (5, 5, 1)])
def test_steps_per_epoch_drops_a_partial_batch_unless_it_is_the_only_one(n_images, batch_size, steps):
    assert steps_per_epoch(n_images, batch_size) == steps
    batches = epoch_of(make_data(n_images), batch_size=batch_size)
    assert [len(labels) for _, labels in batches] == [min(n_images, batch_size)] * steps
