"""Folders of image files against Pillow's own pixels, and the cache of decoded images."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ofav2_plugins import registry
from ofav2_plugins.data import decode as decoding
from ofav2_plugins.data.decode import decode
from ofav2_plugins.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("OFAV2_CACHE", str(folder))
    return folder


def load(name, root, **settings):
    return registry.load(registry.DATASETS, name).load(root, **settings)


def paint(path: Path, color, size=(64, 64), mode="RGB", **save) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, **save)
    return path


def photograph(size: tuple[int, int], seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


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


@pytest.fixture
def flat(tmp_path) -> Path:
    """Two classes with five images of 40 pixels each."""
    root = tmp_path / "flat"
    for name, red in (("cat", 0), ("dog", 200)):
        for i in range(5):
            paint(root / name / f"{i}.png", (red, 10 * i, 0), (40, 40))
    return root


def test_tiny_imagenet_in_its_original_layout(tiny):
    data = load("tiny-imagenet", tiny, validation_fraction=0.25)
    assert data.class_names == ("goldfish, Carassius auratus", "n03", "bullfrog")
    assert (len(data.train), len(data.validation), len(data.test)) == (9, 3, 6)
    assert data.test.labels.tolist() == [2, 0, 1, 1, 2, 0]  # n04's image is left out
    assert data.test.images[:, 1, 5, 5].tolist() == [160, 0, 80, 80, 160, 0]
    assert data.test.images[:, 2, 5, 5].tolist() == [0, 1, 2, 3, 5, 6]
    for split in (data.train, data.validation):
        assert split.images.shape[1:] == (3, 64, 64)
        assert np.abs(split.images[:, 0, 30, 30].astype(int) - 80 * split.labels).max() <= 3  # JPEG


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


def test_tiny_imagenet_without_words_or_with_an_empty_training_folder(tiny):
    (tiny / "words.txt").unlink()
    assert load("tiny-imagenet", tiny).class_names == ("n01", "n03", "n02")
    (tiny / "train").rename(tiny / "elsewhere")
    (tiny / "train").mkdir()
    with pytest.raises(UserError, match="train"):
        load("tiny-imagenet", tiny)


def test_every_mode_of_image_becomes_rgb(tmp_path):
    """Colours that each mode can hold, and what a person sees in them."""
    red, gray = (220, 20, 30), 130
    palette = Image.new("P", (40, 40), 1)
    palette.putpalette([0, 0, 0, *red])
    palette.save(tmp_path / "palette.png")
    deep = Image.fromarray(np.full((40, 40), gray * 257, dtype=np.uint16))
    deep.save(tmp_path / "deep.png")
    wanted = {
        paint(tmp_path / "gray.png", gray, (40, 40), "L"): (gray,) * 3,
        paint(tmp_path / "bits.png", 1, (40, 40), "1"): (255,) * 3,
        paint(tmp_path / "gray_alpha.png", (gray, 255), (40, 40), "LA"): (gray,) * 3,
        paint(tmp_path / "opaque.png", (*red, 255), (40, 40), "RGBA"): red,
        paint(tmp_path / "cmyk.jpg", (0, 255, 255, 0), (40, 40), "CMYK", quality=95): (255, 0, 0),
        tmp_path / "palette.png": red,
        tmp_path / "deep.png": (gray,) * 3,
    }
    images = decode(list(wanted), 32)
    assert images.dtype == np.uint8 and images.shape == (len(wanted), 3, 32, 32)
    for image, (path, color) in zip(images, wanted.items(), strict=True):
        far = np.abs(image.astype(int) - np.array(color).reshape(3, 1, 1)).max()
        assert far <= 3, f"{path.name} is {image[:, 16, 16]}, not {color}"


@pytest.mark.parametrize("size", [(32, 32), (61, 47), (33, 90), (200, 3), (1, 1)])
def test_odd_sizes_are_resized_by_the_shorter_side_and_cropped_in_the_centre(tmp_path, size):
    picture = photograph(size)
    picture.save(tmp_path / "odd.png")
    got = decode([tmp_path / "odd.png"], 32)[0].astype(int)
    scale = 32 / min(size)
    wide = picture.resize((round(size[0] * scale), round(size[1] * scale)), Image.Resampling.BILINEAR)
    left, top = (wide.width - 32) // 2, (wide.height - 32) // 2
    wanted = np.asarray(wide.crop((left, top, left + 32, top + 32))).transpose(2, 0, 1).astype(int)
    assert np.abs(got - wanted).max() <= 1


# What EXIF 2.3 says of the tag: the visual side that the stored row 0 and the stored column 0 are.
ORIENTATIONS = {
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
}  # fmt: skip


def stored(seen: np.ndarray, row: str, column: str) -> np.ndarray:
    """The pixels [y, x, 3] of a picture as a camera stores it whose row and column 0 are these sides."""
    array = seen if row in ("top", "bottom") else seen.transpose(1, 0, 2)
    array = array[::-1] if row in ("bottom", "right") else array
    return np.ascontiguousarray(array[:, ::-1] if column in ("bottom", "right") else array)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_turned_photographs_are_upright(tmp_path, orientation, suffix):
    picture = photograph((48, 32), seed=orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    sideways = Image.fromarray(stored(np.asarray(picture), *ORIENTATIONS[orientation]))
    sideways.save(tmp_path / f"turned.{suffix}", exif=exif, quality=98)
    wanted = np.asarray(picture)[:, 8:40].transpose(2, 0, 1).astype(int)
    got = decode([tmp_path / f"turned.{suffix}"], 32)[0].astype(int)
    assert np.abs(got - wanted).mean() < 8  # half the colours' resolution is lost; turned otherwise it is above 40


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_exif_harms_no_image(tmp_path):
    """Whatever byte of it is another: the image is upright or as it is stored, never an error."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A], exif[0x8769] = 6, "maker", 72.0, {0x9003: "2026:01:01", 0xA002: 5}
    picture = photograph((32, 32))
    picture.save(tmp_path / "whole.jpg", exif=exif, quality=98)
    content = (tmp_path / "whole.jpg").read_bytes()
    start = content.index(b"Exif\0\0") + 6
    files = []
    for position in range(start, start + len(exif.tobytes()) - 6):
        for value in (0, 2, 0xFF):
            files.append(tmp_path / f"{position}-{value}.jpg")
            files[-1].write_bytes(content[:position] + bytes([value]) + content[position + 1 :])
    as_stored = np.asarray(picture).astype(int).transpose(2, 0, 1)
    for image in decode(files, 32).astype(int):
        turns = [np.rot90(as_stored, k, (1, 2)) for k in range(4)]
        views = [view for turn in turns for view in (turn, turn[:, :, ::-1])]
        assert min(np.abs(image - view).mean() for view in views) < 4


def test_image_folder_splits_every_class(flat):
    data = load("image-folder", flat, validation_fraction=0.25, seed=4)
    assert data.class_names == ("cat", "dog")
    assert (len(data.train), len(data.validation), len(data.test)) == (6, 2, 2)
    everything = []
    for split in (data.train, data.validation, data.test):
        assert (split.images[:, 0, 0, 0] == 200 * split.labels).all()
        everything += [(int(image[0, 0, 0]), int(image[1, 0, 0])) for image in split.images]
    assert sorted(everything) == [(red, 10 * i) for red in (0, 200) for i in range(5)]
    assert all(r % 4 == 0 and r <= 40 for r in data.resolutions) and max(data.resolutions) == 40


@pytest.mark.parametrize("beside", ["test", "val", "validation"])
def test_image_folder_with_a_test_folder_keeps_it_apart(flat, tmp_path, beside):
    (tmp_path / "both").mkdir()
    flat.rename(tmp_path / "both" / "train")
    for i in range(3):
        paint(tmp_path / "both" / "train" / "ant" / f"{i}.png", 0, (40, 40))
    for name, blue in (("dog", 250), ("cat", 50)):  # labels are those of the training folder, where ant is 0
        paint(tmp_path / "both" / beside / name / "only.jpeg", (0, 0, blue), (50, 50), quality=95)
    data = load("image-folder", tmp_path / "both")
    assert data.class_names == ("ant", "cat", "dog") and data.test.labels.tolist() == [1, 2]
    assert np.abs(data.test.images[:, 2, 9, 9].astype(int) - [50, 250]).max() <= 3
    assert len(data.train) + len(data.validation) == 13
    paint(tmp_path / "both" / beside / "horse" / "0.png", 0, (40, 40))
    with pytest.raises(UserError, match="horse"):
        load("image-folder", tmp_path / "both")


def test_image_folder_that_cannot_be_used_is_named(flat, tmp_path):
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


def bomb() -> bytes:
    """A PNG of a few bytes that says that it has 30,000 x 30,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["truncated", "text", "empty", "bomb", "dangling", "folder"])
def test_a_broken_image_in_the_middle_is_named(flat, cache, kind):
    broken = flat / "cat" / "1b.jpg"
    if kind == "truncated":
        photograph((40, 40)).save(broken)
        broken.write_bytes(broken.read_bytes()[:-300])
    elif kind == "dangling":
        broken.symlink_to(flat / "gone.jpg")
    elif kind == "folder":
        broken.mkdir()
    else:
        broken.write_bytes({"text": b"no image", "empty": b"", "bomb": bomb()}[kind])
    with pytest.raises(UserError) as caught:
        load("image-folder", flat)
    assert str(broken) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not any(path.name.startswith(".") for path in cache.iterdir())  # nothing half built is left


def cached_pixels(cache: Path) -> Path:
    (path,) = cache.glob("*/images.u8")
    return path


def test_the_cache_is_built_once_and_again_where_a_file_changes(flat, cache, monkeypatch):
    files = sorted(flat.glob("*/*.png"))
    decoded: list[Path] = []
    original = decoding._decode_one
    monkeypatch.setattr(decoding, "_decode_one", lambda path, size: decoded.append(path) or original(path, size))
    first = decode(files, 32).copy()
    assert sorted(decoded) == files
    assert (decode(files, 32) == first).all() and len(decoded) == 10
    paint(files[3], (1, 2, 3), (40, 40))
    os.utime(files[3], ns=(1, 1))
    changed = decode(files, 32)
    assert len(decoded) == 20
    assert changed[3, :, 0, 0].tolist() == [1, 2, 3]
    assert (np.delete(changed, 3, axis=0) == np.delete(first, 3, axis=0)).all()
    assert decode(files, 24).shape[-1] == 24 and len(decoded) == 30  # another size is another cache


@pytest.mark.parametrize("name", ["images.u8", "digest"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "removed"])
def test_a_damaged_cache_is_built_again(flat, cache, name, damage):
    files = sorted(flat.glob("*/*.png"))
    wanted = decode(files, 32).copy()
    path = cached_pixels(cache).with_name(name)
    content = path.read_bytes()
    middle = len(content) // 2
    path.unlink()
    if damage == "flipped":
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 0x80]) + content[middle + 1 :])
    elif damage == "truncated":
        path.write_bytes(content[:-1])
    assert (decode(files, 32) == wanted).all()
    assert path.read_bytes() == content


def test_a_cache_that_cannot_be_written_is_named(flat, tmp_path, monkeypatch):
    monkeypatch.setenv("OFAV2_CACHE", str(flat / "cat" / "0.png"))
    with pytest.raises(UserError, match=r"0\.png"):
        load("image-folder", flat)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A real file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting a small disk needs root: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


FILL = """
import os, sys
if sys.argv.pop(1) == "without":
    vars(os).pop("posix_fallocate", None)
from pathlib import Path
from ofav2_plugins.data.decode import decode
from ofav2_plugins.errors import UserError
try:
    decode([Path(name) for name in sys.argv[1:]], 128)
except UserError as error:
    print(error)
    sys.exit(3)
"""


def test_a_cache_is_allocated_without_posix_fallocate_too(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate", raising=False)  # as on macOS
    for n_bytes in (1, 2**20, 2**20 + 1, 3 * 2**20 - 1):
        decoding._allocate(tmp_path / "zeros", n_bytes)
        assert (tmp_path / "zeros").read_bytes() == bytes(n_bytes)


@pytest.mark.parametrize("fallocate", ["with", "without"])
def test_a_full_disk_under_the_cache_is_an_error_and_no_crash(flat, small_disk, fallocate):
    files = [str(path) for path in sorted(flat.glob("*/*.png"))]
    done = subprocess.run(
        [sys.executable, "-c", FILL, fallocate, *files],
        env={**os.environ, "OFAV2_CACHE": str(small_disk)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3, f"exit code {done.returncode}: {done.stderr[-300:]}"
    assert "disk is full" in done.stdout or "disk full" in done.stdout
    assert list(small_disk.iterdir()) == []
