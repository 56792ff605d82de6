"""Tiny ImageNet and image folders: layouts, labels, and the errors for unusable folders."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from support.pictures import images_of, paint, photograph

from ofav2_plugins import registry
from ofav2_plugins.errors import UserError


def load(plugin, root, **settings):
    return registry.load(registry.DATASETS, plugin).load(root, **settings)


def values(*splits) -> list[tuple[int, ...]]:
    """A pixel of every image: the images of these tests are all of different colours."""
    return [tuple(image[:, 5, 5].tolist()) for split in splits for image in images_of(split)]


@pytest.fixture
def tiny(tmp_path) -> Path:
    """Tiny ImageNet's layout: three of four classes, four training and two validation images each."""
    root = tmp_path / "tiny"
    wnids = ["n01", "n03", "n02", "n04"]  # n04 has no training images
    for label, wnid in enumerate(wnids[:3]):
        for i in range(4):
            paint(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", (80 * label, 10 * i, 0), quality=95)
    lines = []
    for i, label in enumerate([2, 0, 1, 1, 3, 2, 0]):
        paint(root / "val" / "images" / f"val_{i}.PNG", (0, 80 * label, i))
        lines.append(f"val_{i}.PNG\t{wnids[label]}\t0\t0\t63\t63\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in wnids))
    (root / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\tbullfrog\nn09\tunused\n")
    return root


def test_tiny_imagenet_in_its_original_layout(tiny):
    data = load("tiny-imagenet", tiny, validation_fraction=0.25)
    assert data.class_names == ("goldfish, Carassius auratus", "n03", "bullfrog")
    assert (len(data.train), len(data.validation), len(data.test)) == (9, 3, 6)
    assert data.test.labels.tolist() == [2, 0, 1, 1, 2, 0]  # n04's image is left out
    assert images_of(data.test)[:, 1, 5, 5].tolist() == [160, 0, 80, 80, 160, 0]
    assert images_of(data.test)[:, 2, 5, 5].tolist() == [0, 1, 2, 3, 5, 6]
    for split in (data.train, data.validation):
        assert images_of(split).shape[1:] == (3, 64, 64)
        assert np.abs(images_of(split)[:, 0, 30, 30].astype(int) - 80 * split.labels).max() <= 3  # JPEG


def test_tiny_imagenet_annotation_of_a_missing_file_names_file_and_line(tiny):
    (tiny / "val" / "images" / "val_2.PNG").unlink()
    with pytest.raises(UserError, match=r"val_annotations\.txt, line 3: .*val_2\.PNG"):
        load("tiny-imagenet", tiny)


def test_tiny_imagenet_annotation_lines_are_counted_with_blank_ones(tiny):
    annotations = tiny / "val" / "val_annotations.txt"
    annotations.write_text("\n\n" + annotations.read_text() + "val_8.PNG n01\n")
    with pytest.raises(UserError, match=r"val_annotations\.txt, line 10: "):
        load("tiny-imagenet", tiny)


@pytest.mark.parametrize("part", ["train", "wnids.txt", "val/val_annotations.txt", "val/images/val_0.PNG"])
def test_tiny_imagenet_names_a_missing_part(tiny, part):
    (tiny / part).rename(tiny / "elsewhere")
    with pytest.raises(UserError, match=part):
        load("tiny-imagenet", tiny)


@pytest.mark.parametrize("name", ["wnids.txt", "words.txt", "val/val_annotations.txt"])
def test_tiny_imagenet_names_a_file_that_is_no_utf_8_or_cannot_be_read(tiny, name):
    path = tiny / name
    content = path.read_bytes()
    path.write_bytes(content + "n05\tcaf\N{LATIN SMALL LETTER E WITH ACUTE}\n".encode("latin-1"))
    with pytest.raises(UserError, match=f"{name} must be text in UTF-8, .*0xe9 at position {len(content) + 7};"):
        load("tiny-imagenet", tiny)
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=f"{name} cannot be read"):
        load("tiny-imagenet", tiny)


def test_tiny_imagenet_without_words_or_with_an_empty_training_folder(tiny):
    (tiny / "words.txt").unlink()
    assert load("tiny-imagenet", tiny).class_names == ("n01", "n03", "n02")
    (tiny / "train").rename(tiny / "elsewhere")
    (tiny / "train").mkdir()
    with pytest.raises(UserError, match="train"):
        load("tiny-imagenet", tiny)


@pytest.fixture
def large_tiny(tmp_path) -> Path:
    """Tiny ImageNet's layout: two classes, 20 training and 3 validation images each, without loss of colours."""
    root, lines = tmp_path / "tiny", []
    for label, wnid in enumerate(("n01", "n02")):
        for i in range(20):
            paint(root / "train" / wnid / "images" / f"{wnid}_{i}.png", (label, i, 0))
        for i in range(3):
            paint(root / "val" / "images" / f"{wnid}_{i}.png", (label, i, 1))
            lines.append(f"{wnid}_{i}.png\t{wnid}\t0\t0\t63\t63\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("n01\nn02\n")
    return root


@pytest.mark.parametrize("test", ["official", "rest"])
def test_tiny_imagenet_with_some_images_of_each_class(large_tiny, test):
    data = load({"name": "tiny-imagenet", "per_class": 8, "test": test}, large_tiny, validation_fraction=0.25)
    used, tested = values(data.train, data.validation), values(data.test)
    everything = {(label, i, 0) for label in (0, 1) for i in range(20)}
    official = {(label, i, 1) for label in (0, 1) for i in range(3)}
    assert (len(data.train), len(data.validation)) == (12, 4)
    assert len(set(used)) == 16 and set(used) <= everything
    assert np.bincount(data.train.labels).tolist() == [6, 6] and np.bincount(data.validation.labels).tolist() == [2, 2]
    assert len(tested) == len(set(tested))
    assert set(tested) == (official | (everything - set(used)) if test == "rest" else official)
    for split in (data.train, data.validation, data.test):
        assert split.labels.tolist() == [value[0] for value in values(split)]


def test_the_images_of_each_class_are_chosen_by_the_seed_and_smaller_numbers_choose_subsets(large_tiny):
    chosen = {}
    for per_class, seed in ((4, 0), (8, 0), (8, 1)):
        data = load({"name": "tiny-imagenet", "per_class": per_class}, large_tiny, seed=seed)
        chosen[per_class, seed] = set(values(data.train, data.validation))
        again = load({"name": "tiny-imagenet", "per_class": per_class}, large_tiny, seed=seed)
        assert again.fingerprint == data.fingerprint
    assert chosen[4, 0] < chosen[8, 0] != chosen[8, 1]


def test_the_fingerprint_covers_the_settings_of_tiny_imagenet(large_tiny):
    settings = [{}, {"per_class": 8}, {"per_class": 8, "test": "rest"}, {"per_class": 9}]
    assert len({load({"name": "tiny-imagenet", **s}, large_tiny).fingerprint for s in settings}) == 4
    assert (
        load("tiny-imagenet", large_tiny).fingerprint
        == load({"name": "tiny-imagenet", "per_class": None, "test": "rest"}, large_tiny).fingerprint
    )  # nothing is left over


@pytest.mark.parametrize("plugin", ["tiny-imagenet", "image-folder"])
def test_an_impossible_number_of_images_of_each_class_is_an_error(plugin, large_tiny, flat):
    root, most, short = {"tiny-imagenet": (large_tiny, 20, "n01"), "image-folder": (flat, 4, "cat")}[plugin]
    assert len(load({"name": plugin, "per_class": most}, root, validation_fraction=0.5).train) == most
    with pytest.raises(UserError, match=f"per_class must be at most .* got {most + 1} and class '{short}' has {most}"):
        load({"name": plugin, "per_class": most + 1}, root)
    for wrong in (1, 0, -3, "many", 2.5):
        with pytest.raises(UserError, match=f"per_class.*but got {wrong!r}.*its settings are per_class: int"):
            load({"name": plugin, "per_class": wrong}, root)
    with pytest.raises(UserError, match=r"'test'.*'official' or 'rest'.*but got 'all'"):
        load({"name": "tiny-imagenet", "test": "all"}, root)


def test_image_folder_with_some_images_of_each_class_keeps_the_same_test_set(flat):
    whole, part = load("image-folder", flat), load({"name": "image-folder", "per_class": 2}, flat)
    assert values(part.test) == values(whole.test)
    assert (len(part.train), len(part.validation)) == (2, 2)
    assert set(values(part.train, part.validation)) < set(values(whole.train, whole.validation))


def test_image_folder_splits_every_class(flat):
    data = load("image-folder", flat, validation_fraction=0.25, seed=4)
    assert data.class_names == ("cat", "dog")
    assert (len(data.train), len(data.validation), len(data.test)) == (6, 2, 2)
    everything = []
    for split in (data.train, data.validation, data.test):
        assert (images_of(split)[:, 0, 0, 0] == 200 * split.labels).all()
        everything += [(int(image[0, 0, 0]), int(image[1, 0, 0])) for image in images_of(split)]
    assert sorted(everything) == [(red, 10 * i) for red in (0, 200) for i in range(5)]
    assert all(r % 4 == 0 and r <= 40 for r in data.resolutions) and max(data.resolutions) == 40


@pytest.mark.parametrize("folder_name", ["test", "val", "validation"])
def test_image_folder_uses_a_separate_test_folder(flat, tmp_path, folder_name):
    (tmp_path / "both").mkdir()
    flat.rename(tmp_path / "both" / "train")
    for i in range(3):
        paint(tmp_path / "both" / "train" / "ant" / f"{i}.png", 0, (40, 40))
    for name, blue in (("dog", 250), ("cat", 50)):  # labels are those of the training folder, where ant is 0
        paint(tmp_path / "both" / folder_name / name / "only.jpeg", (0, 0, blue), (50, 50), quality=95)
    data = load("image-folder", tmp_path / "both")
    assert data.class_names == ("ant", "cat", "dog") and data.test.labels.tolist() == [1, 2]
    assert np.abs(images_of(data.test)[:, 2, 9, 9].astype(int) - [50, 250]).max() <= 3
    assert len(data.train) + len(data.validation) == 13
    paint(tmp_path / "both" / folder_name / "horse" / "0.png", 0, (40, 40))
    with pytest.raises(UserError, match="horse"):
        load("image-folder", tmp_path / "both")


@pytest.mark.parametrize("folder_name", ["val", "validation"])
def test_image_folder_with_three_folders_uses_each_as_named(flat, tmp_path, folder_name):
    root = tmp_path / "three"
    root.mkdir()
    flat.rename(root / "train")
    for folder, green in (("test", 100), (folder_name, 200)):
        for label, name in enumerate(("cat", "dog")):
            paint(root / folder / name / "only.png", (200 * label, green, 7), (40, 40))
    data = load("image-folder", root, validation_fraction=0.5)
    assert (len(data.train), len(data.validation), len(data.test)) == (10, 2, 2)
    assert sorted(images_of(data.train)[:, 1, 0, 0].tolist()) == sorted([0, 10, 20, 30, 40] * 2)
    for split, green in ((data.test, 100), (data.validation, 200)):
        assert images_of(split)[:, :, 9, 9].tolist() == [[0, green, 7], [200, green, 7]]
        assert split.labels.tolist() == [0, 1]
    assert load("image-folder", root, validation_fraction=0.2, seed=1).fingerprint == data.fingerprint
    paint(root / folder_name / "dog" / "only.png", (200, 201, 7), (40, 40))
    assert load("image-folder", root).fingerprint != data.fingerprint
    paint(root / ("val" if folder_name == "validation" else "validation") / "cat" / "0.png", 0, (40, 40))
    with pytest.raises(UserError, match=r"val/ or validation/ next to train/, but got both"):
        load("image-folder", root)


def test_the_error_for_an_unusable_image_folder_names_it(flat, tmp_path):
    with pytest.raises(UserError, match="--root"):
        load("image-folder", None)
    for root in (tmp_path / "nowhere", flat / "cat" / "0.png"):
        with pytest.raises(UserError) as caught:
            load("image-folder", root)
        assert str(root) in str(caught.value)
    (flat / "empty").mkdir()
    with pytest.raises(UserError, match=r"flat/empty"):
        load("image-folder", flat)
    (flat / "empty").rmdir()
    (flat / "dog").rename(tmp_path / "dog")
    with pytest.raises(UserError, match=r"at least 2 .*cat"):
        load("image-folder", flat)
    (flat / "cat").rename(tmp_path / "cat")
    (flat / "train").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / name).rename(flat / "train" / name)
    with pytest.raises(UserError, match="test"):
        load("image-folder", flat)


def test_image_folder_with_one_image_per_class_is_an_error(flat):
    for path in flat.glob("*/[1-4].png"):
        path.unlink()
    with pytest.raises(UserError, match="class 'cat' must have 2 or more training images, but got 1"):
        load("image-folder", flat)


def bomb() -> bytes:
    """A PNG of a few bytes that says that it has 30,000 x 30,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["truncated", "text", "empty", "bomb", "dangling", "folder", "pipe", "itself"])
def test_a_broken_image_in_the_middle_is_named(flat, cache, kind):
    broken = flat / "cat" / "1b.jpg"
    if kind == "truncated":
        photograph((40, 40)).save(broken)
        broken.write_bytes(broken.read_bytes()[:-300])
    elif kind == "dangling":
        broken.symlink_to(flat / "gone.jpg")
    elif kind == "folder":
        broken.mkdir()
    elif kind == "pipe":
        os.mkfifo(broken)
    elif kind == "itself":
        broken.symlink_to(broken)
    else:
        broken.write_bytes({"text": b"no image", "empty": b"", "bomb": bomb()}[kind])
    with pytest.raises(UserError) as caught:
        load("image-folder", flat)
    assert str(broken) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not any(path.suffix != ".lock" for path in cache.iterdir())  # nothing half built is left


def test_a_class_folder_that_is_a_link_to_itself_is_named(flat):
    (flat / "bird").symlink_to(flat / "bird")
    with pytest.raises(UserError, match="flat/bird is a broken link"):
        load("image-folder", flat)


def test_tiny_imagenet_with_a_named_pipe_for_a_list_is_an_error(tiny):
    (tiny / "wnids.txt").unlink()
    os.mkfifo(tiny / "wnids.txt")
    with pytest.raises(UserError, match=r"wnids\.txt cannot be read: it is not a regular file"):
        load("tiny-imagenet", tiny)
