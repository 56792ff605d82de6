"""Splits and fingerprints by their definition, and the datasets that are one file or one archive."""

from __future__ import annotations

import hashlib
import pickle
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pictures import images_of
from torchvision import datasets

from ofav2_plugins import registry
from ofav2_plugins.data.base import DataSplits, Split, check_splits, make_splits, stratified_split
from ofav2_plugins.data.fashion_mini import EMBEDDED, FashionMini, read_embedded
from ofav2_plugins.errors import UserError
from ofav2_plugins.execution.training_run import load_data
from ofav2_plugins.plugin import PluginError

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=80).map(lambda v: np.array(v, dtype=np.int64))


def build(
    images=None, labels=None, test_images=None, test_labels=(0, 1, 2), class_names=("a", "b", "c"), seed=0
) -> DataSplits:
    images = (
        np.arange(12 * 3 * 4 * 4, dtype=np.uint32).astype(np.uint8).reshape(12, 3, 4, 4) if images is None else images
    )
    labels = np.arange(12, dtype=np.int64) % 3 if labels is None else labels
    test_images = images[: len(test_labels)] if test_images is None else test_images
    test = Split(test_images, np.array(test_labels, dtype=np.int64))
    return make_splits(
        "made", Split(images, labels), test, class_names=class_names, resolutions=(4,), mean=(0.5,) * 3,
        std=(0.5,) * 3, validation_fraction=0.25, seed=seed,
    )  # fmt: skip


@given(labels=LABELS, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 1000))
def test_stratified_split_takes_the_same_fraction_of_every_class(labels, fraction, seed):
    kept, held_out = stratified_split(labels, fraction, seed)
    assert sorted([*kept.tolist(), *held_out.tolist()]) == list(range(len(labels)))
    assert (np.diff(kept) > 0).all() and (np.diff(held_out) > 0).all()
    for label in set(labels.tolist()):
        n, out = int((labels == label).sum()), int((labels[held_out] == label).sum())
        assert abs(out - fraction * n) <= 1
        assert n == 1 or 1 <= out < n
    again = stratified_split(labels, fraction, seed)
    assert (again[0] == kept).all() and (again[1] == held_out).all()


def test_another_seed_holds_out_other_images():
    labels = np.arange(200) % 4
    chosen = {tuple(stratified_split(labels, 0.15, seed)[1].tolist()) for seed in range(5)}
    assert len(chosen) == 5


def test_fingerprint_depends_on_every_pixel_label_name_and_the_seed():
    images = np.zeros((12, 3, 4, 4), dtype=np.uint8)
    pixel, test_pixel, labels = images.copy(), images[:3].copy(), np.arange(12, dtype=np.int64) % 3
    pixel[11, 2, 3, 3] = 1
    test_pixel[0, 0, 0, 0] = 1
    swapped = labels.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    fingerprints = [
        build(images).fingerprint,
        build(pixel, test_images=images[:3]).fingerprint,
        build(images, test_images=test_pixel).fingerprint,
        build(images, swapped).fingerprint,
        build(images, class_names=("a", "b", "d")).fingerprint,
        build(images, seed=1).fingerprint,
    ]
    assert len(set(fingerprints)) == len(fingerprints)
    assert build(images.copy()).fingerprint == fingerprints[0]


def test_fingerprint_is_the_hash_of_everything_at_once():
    images = np.random.default_rng(0).integers(0, 256, (700, 3, 2, 2), dtype=np.uint8)
    labels = np.arange(700, dtype=np.int64) % 3
    kept, held_out = stratified_split(labels, 0.25, 0)
    content = b""
    for array in (images, labels, images[:3], labels[:3], kept, held_out):
        content += f"{array.dtype}{array.shape}".encode() + array.tobytes()
    wanted = hashlib.blake2b(content + b"a\nb\nc" + b"\n0.5" * 6, digest_size=16).hexdigest()
    assert build(images, labels).fingerprint == wanted
    assert build(np.asfortranarray(images), labels).fingerprint == wanted


@given(data=st.data(), n=st.integers(1, 30))
def test_a_part_of_a_part_equals_numpy_indexing(data, n):
    images = np.arange(n, dtype=np.uint8)[:, None, None, None]
    wanted = images, np.arange(n) * 10
    split = Split(*wanted)
    for _ in range(3):
        indices = np.array(data.draw(st.lists(st.integers(0, len(split) - 1), min_size=1, max_size=n)))
        split, wanted = split.take(indices), tuple(array[indices] for array in wanted)
        assert len(split) == len(indices)
        assert (images_of(split) == wanted[0]).all() and (split.labels == wanted[1]).all()
        assert split.pixels(np.array([0])).tolist() == wanted[0][:1].tolist()


def test_splitting_a_memory_map_leaves_it_on_the_disk(tmp_path):
    path, n_images = tmp_path / "images", 4096
    with open(path, "wb") as file:
        file.truncate(n_images * 3 * 64 * 64)  # 48 MiB
    images = np.memmap(path, dtype=np.uint8, mode="r", shape=(n_images, 3, 64, 64))
    tracemalloc.start()
    data = build(images, np.arange(n_images) % 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(data.train) + len(data.validation) == n_images
    assert peak < 8 * 2**20


def test_images_keep_their_labels():
    images = np.zeros((12, 3, 4, 4), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(12)
    data = build(images)
    for split in (data.train, data.validation):
        assert (images_of(split)[:, 0, 0, 0] % 3 == split.labels).all()
    assert len(data.train) == 9 and len(data.validation) == 3


@pytest.mark.parametrize(
    ("labels", "class_names", "named"),
    [
        (np.array([0] * 6 + [1] * 6), ("a", "b", "c"), "'c'"),
        (np.array([0] * 6 + [1] * 5 + [2]), ("a", "b", "c"), "'c'"),
        (np.zeros(12, dtype=np.int64), ("alone",), "alone"),
    ],
)
def test_a_class_that_cannot_be_learned_is_named(labels, class_names, named):
    with pytest.raises(UserError, match=named):
        build(labels=labels, class_names=class_names)


@pytest.mark.parametrize("wrong", [-1, 3, 255])
def test_a_label_without_a_class_is_an_error_that_names_the_dataset(wrong):
    labels = np.arange(12, dtype=np.int64) % 3
    with pytest.raises(UserError, match=rf"'made'.*training.*0 to 2.* got {wrong};"):
        build(labels=np.append(labels[:-1], wrong))
    with pytest.raises(UserError, match=rf"'made'.*test.*0 to 2.* got {wrong};"):
        build(test_labels=np.array([0, wrong, 1]))


def test_an_empty_test_set_is_an_error_that_names_the_dataset():
    with pytest.raises(UserError, match="'made' must have at least 1 test image"):
        build(test_labels=np.array([], dtype=np.int64))


def test_separate_validation_images_are_all_kept_and_checked():
    images, labels = np.arange(4, dtype=np.uint8)[:, None, None, None], np.array([0, 1, 1, 0])
    settings = {"class_names": ("a", "b"), "resolutions": (4,), "mean": (0.5,) * 3, "std": (0.5,) * 3, "seed": 0}

    def make(validation: Split) -> DataSplits:
        train, test = Split(images[:2], labels[:2]), Split(images[2:3], labels[2:3])
        return make_splits("made", train, test, validation=validation, validation_fraction=0.5, **settings)

    data = make(Split(images[3:], labels[3:]))
    assert [images_of(s).ravel().tolist() for s in (data.train, data.validation, data.test)] == [[0, 1], [3], [2]]
    assert make(Split(images[3:] + 1, labels[3:])).fingerprint != data.fingerprint
    with pytest.raises(UserError, match="'made' must have at least 1 validation image"):
        make(Split(images[:0], labels[:0]))
    with pytest.raises(UserError, match="labels of its validation images must be 0 to 1"):
        make(Split(images[3:], labels[3:] + 2))


IMAGES, LABELS = np.zeros((6, 3, 4, 4), dtype=np.uint8), np.arange(6) % 3


def changed(**fields) -> DataSplits:
    return replace(build(), **fields)


@pytest.mark.parametrize(
    ("returned", "rule"),
    [
        (None, "must return DataSplits, but got None"),
        (changed(train=None), "train must be a Split, but got None"),
        (changed(train=Split(IMAGES / 255, LABELS)), "train: images must be an array of uint8, but got float64"),
        (changed(test=Split(IMAGES[..., :3], LABELS)), r"test: images must be square.*but got \(6, 3, 4, 3\)"),
        (changed(train=Split(IMAGES[:, :2], LABELS)), r"train: images must have 1 or 3 channels.*\(6, 2, 4, 4\)"),
        (changed(test=Split(IMAGES[:, :1], LABELS)), r"test: images must have the shape \(3, 4, 4\) .*\(1, 4, 4\)"),
        (changed(train=Split(IMAGES[0], LABELS)), "train: images must be square"),
        (changed(train=Split(IMAGES, LABELS + 1)), "train: labels must be 0 to 2, one per class, but got 1 to 3"),
        (changed(validation=Split(IMAGES, LABELS - 1)), "validation: labels must be 0 to 2.*but got -1 to 1"),
        (changed(test=Split(IMAGES, LABELS.astype(float))), "test: labels must be int64"),
        (changed(test=Split(IMAGES, LABELS[:5])), "test: there must be one label for each of 6 images, but got 5"),
        (changed(test=Split(IMAGES[:0], LABELS[:0])), "test: there must be at least 1 image, but got 0"),
        (changed(test=Split(IMAGES, LABELS, np.arange(6) + 1)), "test: rows must be 0 to 5, but got 1 to 6"),
        (changed(mean=(0.5, 0.5, float("nan"))), r"mean must be three finite numbers, but got \(0.5, 0.5, nan\)"),
        (changed(mean=(0.5,)), r"mean must be three finite numbers, but got \(0.5,\)"),
        (changed(std=(0.5, 0.0, 0.5)), "std must be three positive numbers"),
        (changed(std=(0.5, float("inf"), 0.5)), "std must be three positive numbers"),
        (changed(resolutions=(32, 0)), r"resolutions must be positive integers, but got \[32, 0\]"),
        (changed(class_names=("a",)), "at least 2 classes"),
    ],
)
def test_splits_that_break_the_contract_are_refused_before_training(monkeypatch, returned, rule):
    monkeypatch.setattr(FashionMini, "load", lambda *_, **__: returned)
    with pytest.raises(PluginError, match=rf"plugin 'fashion-mini' of ofav2\.datasets .*: .*{rule}"):
        load_data("fashion-mini", None, 0.15)


def test_splits_that_keep_the_contract_pass_and_need_no_root():
    data = build()
    assert check_splits(data, "made") is data
    assert load_data("fashion-mini", None, 0.15).n_classes == 10


def test_an_exception_of_a_dataset_names_the_plugin(monkeypatch):
    monkeypatch.setattr(FashionMini, "load", lambda *_, **__: {}["missing"])
    with pytest.raises(PluginError, match=r"plugin 'fashion-mini' of ofav2\.datasets .*fails in load: KeyError"):
        load_data("fashion-mini", None, 0.15)


@pytest.mark.parametrize("field", ["mean", "std"])
def test_mean_and_std_enter_the_fingerprint(field):
    settings = {"class_names": ("a", "b", "c"), "resolutions": (4,), "validation_fraction": 0.5, "seed": 0}
    values = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    made = [
        make_splits("made", Split(IMAGES, LABELS), Split(IMAGES, LABELS), **settings, **{**values, **other}).fingerprint
        for other in ({}, {field: (0.5, 0.5, 0.51)}, {field: (0.5, 0.5, np.float64(0.5))})
    ]
    assert made[0] == made[2] != made[1]


def test_fashion_mini_is_complete_and_balanced():
    data = registry.load(registry.DATASETS, "fashion-mini").load()
    assert (len(data.train), len(data.validation), len(data.test)) == (2550, 450, 1000)
    assert data.n_classes == 10
    for split, count in ((data.train, 255), (data.validation, 45), (data.test, 100)):
        assert np.bincount(split.labels).tolist() == [count] * 10
        assert images_of(split).shape == (10 * count, 1, 28, 28) and images_of(split).dtype == np.uint8
    # No photograph is in two splits.
    seen = [{image.tobytes() for image in images_of(split)} for split in (data.train, data.validation, data.test)]
    assert not seen[0] & seen[1] and not (seen[0] | seen[1]) & seen[2]


def test_a_root_for_fashion_mini_is_an_error(tmp_path):
    with pytest.raises(UserError, match=rf"fashion-mini takes no --root.*image-folder.*but got --root {tmp_path}"):
        registry.load(registry.DATASETS, "fashion-mini").load(tmp_path)


def test_a_damaged_embedded_file_is_named(tmp_path):
    whole = EMBEDDED.read_bytes()
    train, test = read_embedded(EMBEDDED)
    damaged = tmp_path / "fashion_mini.npz"
    noticed = 0
    for position in [*range(0, 400, 13), *range(400, len(whole), len(whole) // 12), len(whole) - 1]:
        damaged.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        try:
            again = read_embedded(damaged)
        except UserError as error:
            assert str(damaged) in str(error)
            noticed += 1
            continue
        for got, wanted in zip(again, (train, test), strict=True):  # a byte that means nothing, such as a date's
            assert (images_of(got) == images_of(wanted)).all() and (got.labels == wanted.labels).all()
    assert noticed >= 12
    for length in (0, 3, len(whole) // 2, len(whole) - 1):
        damaged.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"fashion_mini\.npz"):
            read_embedded(damaged)
    damaged.unlink()
    with pytest.raises(UserError, match=r"fashion_mini\.npz"):
        read_embedded(damaged)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_error_of_missing_cifar_files_names_the_download(tmp_path, name):
    dataset = registry.load(registry.DATASETS, name)
    archive = {"cifar10": "cifar-10-python.tar.gz", "cifar100": "cifar-100-python.tar.gz"}[name]
    for root in (None, tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match=archive):
            dataset.load(root)


def fake_cifar10(root, monkeypatch) -> tuple[np.ndarray, list[int]]:
    """Pickled batches in CIFAR-10's layout, with their checksums registered in the reader; training rows and labels."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = {
        name: rng.integers(0, 256, (8, 3072), dtype=np.uint8) for name in ("data_batch_1", "data_batch_2", "test_batch")
    }
    labels = [0, 1, 2, 3, 0, 1, 2, 3]
    sums = {}
    for name, content in {
        **{name: {"data": data, "labels": labels, "batch_label": name, "filenames": []} for name, data in rows.items()},
        "batches.meta": {"label_names": ["airplane", "automobile", "bird", "cat"], "num_vis": 3072},
    }.items():
        written = pickle.dumps(content, protocol=2)
        (folder / name).write_bytes(written)
        sums[name] = hashlib.md5(written, usedforsecurity=False).hexdigest()
    reader = datasets.CIFAR10
    monkeypatch.setattr(reader, "train_list", [[name, sums[name]] for name in ("data_batch_1", "data_batch_2")])
    monkeypatch.setattr(reader, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": sums["batches.meta"]})
    return np.concatenate([rows["data_batch_1"], rows["data_batch_2"]]), labels * 2


def test_cifar10_pixels_are_planes_of_red_green_blue(tmp_path, monkeypatch):
    rows, labels = fake_cifar10(tmp_path, monkeypatch)
    data = registry.load(registry.DATASETS, "cifar10").load(tmp_path, validation_fraction=0.25)
    kept, held_out = stratified_split(np.array(labels), 0.25, 0)
    for split, indices in ((data.train, kept), (data.validation, held_out)):
        assert split.labels.tolist() == [labels[i] for i in indices]
        for image, index in zip(images_of(split), indices, strict=True):
            row = rows[index]
            for channel, y, x in (
                (0, 0, 0),
                (1, 3, 5),
                (2, 31, 30),
            ):  # a row holds 1024 red, then green, then blue
                assert image[channel, y, x] == row[1024 * channel + 32 * y + x]
    assert data.class_names == ("airplane", "automobile", "bird", "cat")
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    batch.write_bytes(batch.read_bytes()[:-1] + b"!")
    with pytest.raises(UserError, match="damaged"):
        registry.load(registry.DATASETS, "cifar10").load(tmp_path)


@pytest.mark.parametrize("shared", [True, False])
def test_joined_splits_have_the_images_of_both(shared):
    images = np.random.default_rng(0).integers(0, 256, (6, 1, 4, 4), dtype=np.uint8)
    labels = np.arange(6)
    whole = Split(images, labels)
    first = whole.take(np.array([4, 0, 2]))
    second = (whole if shared else Split(images.copy(), labels)).take(np.array([1, 5]))
    both = first.joined(second)
    assert both.labels.tolist() == [4, 0, 2, 1, 5]
    np.testing.assert_array_equal(both.pixels(np.arange(5)), images[[4, 0, 2, 1, 5]])
