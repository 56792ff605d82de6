"""IDX files written by hand, byte by byte: whole, gzipped, truncated any_rank, of the wrong kind."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from support.pictures import images_of

from ofav2_plugins import registry
from ofav2_plugins.data.idx import find_idx, read_idx
from ofav2_plugins.errors import UserError


def idx(array: np.ndarray) -> bytes:
    """The file as yann.lecun.com/exdb/mnist describes it."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def fashion_folder(folder, n_train=20, n_test=10):
    rng = np.random.default_rng(0)
    for part, n in (("train", n_train), ("t10k", n_test)):
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        labels = (np.arange(n) % 10).astype(np.uint8)
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return folder


@pytest.mark.parametrize("shape", [(7,), (4, 3, 2)])
def test_plain_and_gzipped_files_have_the_same_content(tmp_path, shape):
    array = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    (tmp_path / "plain").write_bytes(idx(array))
    (tmp_path / "packed.gz").write_bytes(gzip.compress(idx(array)))
    for name in ("plain", "packed"):
        got = read_idx(find_idx(tmp_path, name))
        assert got.shape == shape and (got == array).all()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_file_truncated_anywhere_is_named(tmp_path, suffix):
    content = idx(np.arange(12, dtype=np.uint8).reshape(3, 2, 2))
    content = gzip.compress(content) if suffix else content
    path = tmp_path / f"images{suffix}"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(UserError) as caught:
            read_idx(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00\x00\x00\x00",  # floats
        b"\x89PNG\r\n\x1a\n",
        idx(np.arange(12, dtype=np.uint8)) + b"x",
        b"\x00\x00\x08\xff\x00\x00\x00\x01",  # 255 axes
    ],
)
def test_another_kind_of_file_is_named(tmp_path, content):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_plain_content_under_a_gz_name_and_missing_files_are_named(tmp_path):
    path = tmp_path / "labels.gz"
    path.write_bytes(idx(np.arange(3, dtype=np.uint8)))
    with pytest.raises(UserError, match=r"labels\.gz"):
        read_idx(path)
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz"):
        find_idx(tmp_path, "train-images-idx3-ubyte")


def test_fashion_mnist_reads_its_four_files(tmp_path):
    data = registry.load(registry.DATASETS, "fashion-mnist").load(fashion_folder(tmp_path), validation_fraction=0.5)
    assert (len(data.train), len(data.validation), len(data.test)) == (10, 10, 10)
    raw = (tmp_path / "t10k-images-idx3-ubyte").read_bytes()[16:]
    assert images_of(data.test).tobytes() == raw and data.test.labels.tolist() == list(range(10))
    assert data.class_names[9] == "Ankle boot"


def test_fashion_mnist_with_other_numbers_of_images_and_labels_is_refused(tmp_path):
    fashion_folder(tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte.gz"
    for n in (19, 40):
        labels.write_bytes(gzip.compress(idx((np.arange(n) % 10).astype(np.uint8))))
        with pytest.raises(UserError):
            registry.load(registry.DATASETS, "fashion-mnist").load(tmp_path)


@pytest.mark.parametrize(("part", "labels"), [("train", [*range(9), 10] * 2), ("t10k", [0] * 9 + [255])])
def test_fashion_mnist_with_a_label_that_no_class_has_is_refused(tmp_path, part, labels):
    fashion_folder(tmp_path)
    content = gzip.compress(idx(np.array(labels, dtype=np.uint8)))
    (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(content)
    with pytest.raises(UserError, match=f"'fashion-mnist'.* 0 to 9.* got {labels[-1]};"):
        registry.load(registry.DATASETS, "fashion-mnist").load(tmp_path)


def test_fashion_mnist_without_test_images_is_refused(tmp_path):
    with pytest.raises(UserError, match="t10k-images-idx3-ubyte is missing, damaged or not an IDX file"):
        registry.load(registry.DATASETS, "fashion-mnist").load(fashion_folder(tmp_path, n_test=0))


def test_fashion_mnist_with_images_and_labels_exchanged_is_refused(tmp_path):
    fashion_folder(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(np.arange(10, dtype=np.uint8)))
    with pytest.raises(UserError):
        registry.load(registry.DATASETS, "fashion-mnist").load(tmp_path)


def test_fashion_mnist_without_a_file_names_it(tmp_path):
    fashion_folder(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match="t10k-labels-idx1-ubyte"):
        registry.load(registry.DATASETS, "fashion-mnist").load(tmp_path)
