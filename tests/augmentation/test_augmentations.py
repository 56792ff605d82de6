"""Augmentations against torchvision's own transforms, and batches with several of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from ofav2_plugins import registry
from ofav2_plugins.augmentation.base import BatchContext, augment, resize
from ofav2_plugins.data.base import DataSplits, Split
from ofav2_plugins.data.batches import calibration_batches, train_batches
from ofav2_plugins.plugin import PluginError
from ofav2_plugins.recipes.schema import Recipe
from ofav2_plugins.testing import check_plugin
from ofav2_plugins.utils.seeding import forked_torch

NAMES = ["crop_flip", "randaugment", "trivialaugment", "mixup", "cutmix"]
ALL = ["crop_flip", "randaugment", {"name": "mixup", "alpha": 0.2}]
SEED = (0, "kernel", 1, 2)


def load(plugins) -> list:
    return [registry.load(registry.AUGMENTATIONS, plugin) for plugin in plugins]


def context(n=6, part=slice(None), resolution=16) -> BatchContext:
    return BatchContext(n, slice(*part.indices(n)), resolution, 4, SEED)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (6, 3, 16, 16), generator=torch.Generator().manual_seed(0)).float()


LABELS = torch.arange(6) % 4


def test_the_registered_augmentations_keep_the_contract():
    assert registry.names(registry.AUGMENTATIONS) == sorted(NAMES)
    for name in NAMES:
        check_plugin(registry.AUGMENTATIONS, name)


@pytest.mark.parametrize(
    ("plugin", "transform"),
    [
        ({"name": "randaugment", "num_ops": 3, "magnitude": 12}, v2.RandAugment(3, 12)),
        ({"name": "trivialaugment", "num_magnitude_bins": 10}, v2.TrivialAugmentWide(10)),
    ],
)
def test_every_image_is_transformed_by_torchvision_with_a_seed_of_its_own(images, plugin, transform):
    got, labels = augment(images, LABELS, load([plugin]), context())
    assert torch.equal(labels, LABELS)
    for place, image in enumerate(images.byte()):
        with forked_torch(*SEED, place):
            assert torch.equal(got[place], transform(image).float())
    assert not torch.equal(got, images)


@pytest.mark.parametrize(("name", "transform"), [("mixup", v2.MixUp), ("cutmix", v2.CutMix)])
def test_mixed_batches_equal_those_of_torchvision(images, name, transform):
    got, labels = augment(images, LABELS, load([{"name": name, "alpha": 0.4}]), context())
    with forked_torch(*SEED):
        wanted, wanted_labels = transform(alpha=0.4, num_classes=4)(images, LABELS)
    assert torch.equal(got, wanted) and torch.equal(labels, wanted_labels)
    assert not torch.equal(got, images)


@pytest.mark.parametrize("name", ["crop_flip", "randaugment", "trivialaugment"])
def test_the_parts_of_all_ranks_form_the_whole_batch(images, name):
    whole, _ = augment(images, LABELS, load([name]), context())
    for part in (slice(0, 2), slice(2, 6)):
        got, _ = augment(images[part], LABELS[part], load([name]), context(part=part))
        torch.testing.assert_close(got, whole[part], atol=1e-3, rtol=0)


def test_without_augmentation_images_are_resized():
    images = torch.rand(2, 3, 20, 20)
    got, labels = augment(images, LABELS[:2], [], context(2, resolution=12))
    assert torch.equal(got, resize(images, 12)) and got.shape == (2, 3, 12, 12) and torch.equal(labels, LABELS[:2])


def make_data() -> DataSplits:
    images = np.random.default_rng(0).integers(0, 256, (24, 3, 20, 20), dtype=np.uint8)
    split = Split(images, np.arange(24, dtype=np.int64) % 4)
    return DataSplits("made", split, split, split, ("a", "b", "c", "d"), (16, 20), (0.5,) * 3, (0.25,) * 3, "")


def epoch(plugins, **changes):
    settings = {"batch_size": 8, "resolutions": (16, 20), "seed": 3, "phase": "kernel", "epoch": 0, **changes}
    return list(train_batches(make_data(), augmentations=load(plugins), **settings))


def test_composed_augmentations_give_probabilities_and_resume_within_an_epoch():
    torch.manual_seed(1)
    whole = epoch(ALL)
    torch.manual_seed(2)  # decides nothing
    rest = epoch(ALL, start_step=1)
    assert len(whole) == 3
    for (images, labels), (again, again_labels) in zip(whole[1:], rest, strict=True):
        assert torch.equal(images, again) and torch.equal(labels, again_labels)
        assert labels.shape == (8, 4) and torch.allclose(labels.sum(1), torch.ones(8))
        assert images.shape[-1] in (16, 20)


def test_batch_norms_are_calibrated_with_geometric_augmentations_only():
    data = make_data()
    batches = calibration_batches(data, 16, 12, 6, 0, load(ALL))
    wanted = calibration_batches(data, 16, 12, 6, 0, load(["crop_flip"]))
    assert all(torch.equal(a, b) for a, b in zip(batches, wanted, strict=True))


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        ({"name": "crop_flip", "min_scale": 0}, "min_scale must be above 0 and at most 1, but got 0"),
        ({"name": "crop_flip", "min_scale": 1.5}, "min_scale must be above 0"),
        ({"name": "randaugment", "magnitude": 31}, "magnitude must be 0 to num_magnitude_bins - 1"),
        ({"name": "randaugment", "num_ops": 0}, "num_ops must be at least 1"),
        ({"name": "trivialaugment", "num_magnitude_bins": 1}, "num_magnitude_bins must be at least 2"),
        ({"name": "mixup", "alpha": 0}, "alpha must be above 0"),
        ({"name": "cutmix", "alpha": float("nan")}, "setting 'alpha': Input should be a finite number, but got nan"),
        ({"name": "cutmix", "beta": 1}, "no setting 'beta'.*alpha"),
    ],
)
def test_wrong_settings_are_errors(plugin, message):
    with pytest.raises(PluginError, match=message):
        load([plugin])


@pytest.mark.parametrize("given", ["mixup", {"name": "mixup", "alpha": 0.2}, ALL, []])
def test_a_recipe_takes_one_augmentation_or_a_list(given):
    recipe = Recipe.model_validate({"augmentation": given, "phases": {"full": {"epochs": 1, "lr": 0.1}}})
    assert recipe.augmentations == (given if isinstance(given, list) else [given])
    assert Recipe.model_validate(recipe.model_dump()) == recipe
