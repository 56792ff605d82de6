"""The preprocessing of a bundle gives what the evaluation transform gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ofav2_plugins.data.base import DataSplits, Split
from ofav2_plugins.data.batches import eval_batches
from ofav2_plugins.data.decode import decode
from ofav2_plugins.deploy.preprocessing import Preprocessing
from ofav2_plugins.errors import UserError


def splits(images: np.ndarray) -> DataSplits:
    """A dataset whose test images are `images`."""
    split = Split(images, np.zeros(len(images), dtype=np.int64))
    values = {"mean": (0.48, 0.44, 0.39), "std": (0.27, 0.26, 0.28)}
    return DataSplits("mine", split, split, split, ("a", "b"), (32,), fingerprint="", **values)


def evaluated(data: DataSplits, resolution: int) -> np.ndarray:
    """What evaluation feeds to a network, [N, 3, r, r]."""
    return torch.cat([images for images, _ in eval_batches(data, data.test, resolution, 50)]).numpy()


@given(
    seed=st.integers(0, 99), side=st.integers(8, 80), resolution=st.integers(8, 96), channels=st.sampled_from([1, 3])
)
def test_a_stored_image_becomes_what_evaluation_sees(seed, side, resolution, channels):
    images = np.random.default_rng(seed).integers(0, 256, (2, channels, side, side), dtype=np.uint8)
    data = splits(images)
    preprocess = Preprocessing.of(data, resolution)
    got = np.stack([preprocess.transform(image) for image in images])
    np.testing.assert_allclose(got, evaluated(data, resolution), atol=2e-4)


def photographs(folder) -> list:
    """Image files of different sizes, modes and orientations, each with smooth and sharp parts."""
    rng = np.random.default_rng(0)
    base = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((480, 360))
    base.paste((255, 0, 0), (100, 50, 180, 300))
    turned = Image.Exif()
    turned[0x0112] = 6  # rotate by 90 degrees to look at it
    made = {
        "wide.png": (base.resize((500, 200)), {}),
        "tall.png": (base.resize((90, 333)), {}),
        "small.png": (base.resize((20, 17)), {}),
        "gray.png": (base.convert("L"), {}),
        "alpha.png": (base.convert("RGBA"), {}),
        "palette.gif": (base.convert("P"), {}),
        "turned.jpg": (base, {"exif": turned, "quality": 100, "subsampling": 0}),
        "upright.png": (base.transpose(Image.Transpose.ROTATE_270), {}),
        "deep.png": (Image.fromarray(np.asarray(base.convert("L")).astype(np.uint16) * 257), {}),
    }
    for name, (image, options) in made.items():
        image.save(folder / name, **options)
    return sorted(folder.iterdir())


def test_image_files_become_what_evaluation_sees_of_a_folder_of_them(tmp_path, monkeypatch):
    monkeypatch.setenv("OFAV2_CACHE", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    files = photographs(tmp_path / "photos")
    data = splits(decode(files, 64))
    preprocess = Preprocessing.of(data, 48)
    got = np.stack([preprocess(path) for path in files])
    np.testing.assert_allclose(got, evaluated(data, 48), atol=2e-4)
    upright, turned = (got[[path.name for path in files].index(name)] for name in ("upright.png", "turned.jpg"))
    np.testing.assert_allclose(turned, upright, atol=0.1)  # up to JPEG's rounding: the orientation is not ignored


def test_gray_data_sees_colour_images_in_gray(tmp_path):
    Image.new("RGB", (40, 30), (255, 0, 0)).save(tmp_path / "red.png")
    preprocess = Preprocessing.of(splits(np.zeros((1, 1, 28, 28), dtype=np.uint8)), 28)
    x = preprocess(tmp_path / "red.png")
    assert x.shape == (3, 28, 28)
    red = 76 / 255  # ITU-R 601-2 luma, rounded to 8 bits
    np.testing.assert_allclose(x[:, 0, 0], [(red - 0.48) / 0.27, (red - 0.44) / 0.26, (red - 0.39) / 0.28], atol=1e-5)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n\0\0"])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    preprocess = Preprocessing.of(splits(np.zeros((1, 3, 8, 8), dtype=np.uint8)), 8)
    with pytest.raises(UserError, match=r"a\.png cannot be read"):
        preprocess(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"b\.png cannot be read: No such file"):
        preprocess(tmp_path / "b.png")
