"""Decoded images compared with Pillow's pixels and the EXIF orientation, and the cache of decoded images."""

from __future__ import annotations

import codecs
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.pictures import paint, photograph

from ofav2_plugins.data import decode as decoding
from ofav2_plugins.data.decode import decode
from ofav2_plugins.errors import UserError


def test_every_mode_of_image_becomes_rgb(tmp_path):
    """Colours in each mode, and the RGB values that they stand for."""
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


# EXIF 2.3, tag Orientation: the visual sides of the stored row 0 and of the stored column 0.
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
def test_rotated_photographs_become_upright(tmp_path, orientation, suffix):
    picture = photograph((48, 32), seed=orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    sideways = Image.fromarray(stored(np.asarray(picture), *ORIENTATIONS[orientation]))
    sideways.save(tmp_path / f"turned.{suffix}", exif=exif, quality=98)
    wanted = np.asarray(picture)[:, 8:40].transpose(2, 0, 1).astype(int)
    got = decode([tmp_path / f"turned.{suffix}"], 32)[0].astype(int)
    assert np.abs(got - wanted).mean() < 8  # half the colours' resolution is lost; turned otherwise it is above 40


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_images_with_damaged_exif_data_are_decoded(tmp_path):
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


def entries(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.u8"))


@pytest.fixture
def decoded(monkeypatch) -> list[Path]:
    """The files that are decoded, in the order in which they are."""
    files: list[Path] = []
    original = decoding.decode_image
    monkeypatch.setattr(decoding, "decode_image", lambda path, size: files.append(path) or original(path, size))
    return files


def test_images_are_decoded_once_and_again_if_a_file_changes(flat, decoded):
    files = sorted(flat.glob("*/*.png"))
    first = decode(files, 32).copy()
    assert sorted(decoded) == files
    assert (decode(files, 32) == first).all() and len(decoded) == 10
    paint(files[3], (1, 2, 3), (40, 40))
    os.utime(files[3], ns=(1, 1))
    changed = decode(files, 32)
    assert len(decoded) == 20
    assert changed[3, :, 0, 0].tolist() == [1, 2, 3]
    assert (np.delete(changed, 3, axis=0) == np.delete(first, 3, axis=0)).all()
    assert decode(files, 24).shape[-1] == 24 and len(decoded) == 30  # another size is another entry


@pytest.mark.parametrize("damage", ["flipped", "truncated", "removed", "renamed", "of other images"])
def test_a_damaged_entry_is_rebuilt(flat, cache, decoded, damage):
    files = sorted(flat.glob("*/*.png"))
    wanted = decode(files, 32).copy()
    (path,) = entries(cache)
    content = path.read_bytes()
    middle = len(content) // 2
    if damage == "flipped":
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 0x80]) + content[middle + 1 :])
    elif damage == "truncated":
        path.write_bytes(content[:-1])
    elif damage == "renamed":
        key, digest, user = path.name.split("-")
        path.rename(cache / f"{key}-{'0' * len(digest)}-{user}")
    else:
        path.unlink()
    if damage == "of other images":  # an intact entry under the name of another: its name says another content
        decode(files[::-1], 32)
        (other,) = entries(cache)
        other.rename(cache / f"{path.name.partition('-')[0]}-{other.name.partition('-')[2]}")
    before = len(decoded)
    assert (decode(files, 32) == wanted).all() and len(decoded) == before + 10
    assert entries(cache) == [path] and path.read_bytes() == content


@pytest.mark.parametrize("why", ["group", "others", "owner"])
def test_an_entry_that_another_user_can_change_is_not_used(flat, cache, decoded, why):
    """Even if its digest is right: that user can compute it too."""
    files = sorted(flat.glob("*/*.png"))
    wanted = decode(files, 32).copy()
    (path,) = entries(cache)
    forged = np.zeros_like(wanted)
    path.unlink()
    key, _, user = path.name.split("-")
    path = cache / f"{key}-{decoding._digest(key, forged)}-{user}"
    path.write_bytes(forged.tobytes())
    path.chmod(0o600)
    assert (decode(files, 32) == 0).all() and len(decoded) == 10  # of this user alone, it would be used
    if why == "owner":
        if os.geteuid() != 0:
            pytest.skip("giving a file to another user needs root")
        os.chown(path, NOBODY, NOBODY)
    else:
        path.chmod(0o620 if why == "group" else 0o602)
    assert (decode(files, 32) == wanted).all() and len(decoded) == 20
    assert (decode(files, 32) == wanted).all() and len(decoded) == 20


NOBODY = 65534


def as_user(user: int, function: Callable[[], object]) -> str:
    """What `function` returns, as text, in a process of another user; of an exception, its text."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    codecs.lookup("ascii")  # Pillow needs it, and the other user may not read the interpreter's folder
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgid(user), os.setuid(user)
            answer = str(function())
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


@pytest.fixture
def public(flat, tmp_path_factory) -> list[Path]:
    """Images that every user can read."""
    for path in [flat, *flat.parents]:
        if path.stat().st_mode & 0o055 != 0o055 and path != Path(path.anchor):
            path.chmod(path.stat().st_mode | 0o055)
    return sorted(flat.glob("*/*.png"))


@pytest.mark.parametrize("first", [0, NOBODY])
def test_two_users_share_a_cache_folder_that_both_can_write(public, cache, first, monkeypatch):
    for path in (cache, cache.parent, cache.parent.parent):
        path.chmod(0o1777)
    second = NOBODY if first == 0 else 0
    monkeypatch.setenv("HOME", "/nonexistent")
    for user in (first, second, first, second):
        assert as_user(user, lambda: decode(public, 32)[:, 0, 0, 0].tolist()) == str([0] * 5 + [200] * 5)
    assert sorted(path.stat().st_uid for path in entries(cache)) == [0, NOBODY]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in entries(cache))


def test_the_home_folder_is_used_if_the_cache_folder_cannot_be_written(public, cache, tmp_path_factory, monkeypatch):
    home = tmp_path_factory.mktemp("home")
    os.chown(home, NOBODY, NOBODY)
    monkeypatch.setenv("HOME", str(home))
    cache.chmod(0o755)
    assert as_user(NOBODY, lambda: decode(public, 32)[:, 0, 0, 0].tolist()) == str([0] * 5 + [200] * 5)
    assert entries(cache) == [] and len(entries(home / ".cache" / "ofav2")) == 1
    monkeypatch.setenv("HOME", "/nonexistent")
    assert "UserError: the image cache /nonexistent" in as_user(NOBODY, lambda: decode(public, 32))


@pytest.mark.parametrize("setting", [None, ""])
def test_without_a_setting_or_with_an_empty_one_the_cache_is_in_the_home_folder(flat, tmp_path, monkeypatch, setting):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OFAV2_CACHE")
    if setting is not None:
        monkeypatch.setenv("OFAV2_CACHE", setting)
    decode(sorted(flat.glob("*/*.png")), 32)
    assert len(entries(tmp_path / "home" / ".cache" / "ofav2")) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flat", "home"]


def test_a_cache_that_cannot_be_written_is_named(flat, monkeypatch):
    monkeypatch.setenv("OFAV2_CACHE", str(flat / "cat" / "0.png"))
    with pytest.raises(UserError, match=r"0\.png cannot be written"):
        decode(sorted(flat.glob("*/*.png")), 32)


def test_processes_that_need_the_same_images_at_once_decode_them_once(flat, cache, monkeypatch):
    """Each decoded file is noted in a log that all processes append to."""
    files, log, original = sorted(flat.glob("*/*.png")), flat.parent / "log", decoding.decode_image

    def slow(path: Path, size: int) -> np.ndarray:
        with open(log, "a") as notes:
            notes.write(f"{path}\n")
        time.sleep(0.02)
        return original(path, size)

    monkeypatch.setattr(decoding, "decode_image", slow)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=decode, args=(files, 32)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sorted(log.read_text().split()) == sorted(map(str, files)) and len(entries(cache)) == 1


def test_files_of_a_killed_process_are_removed(flat, cache):
    files = sorted(flat.glob("*/*.png"))
    decode(files, 32)
    (path,) = entries(cache)
    key = path.name.partition("-")[0]
    path.rename(cache / f".{key}-{os.geteuid()}-killed")
    decode(files, 32)
    assert entries(cache) == [path] and not list(cache.glob(".*-killed"))


def test_a_named_pipe_in_the_cache_is_not_opened(flat, cache):
    files = sorted(flat.glob("*/*.png"))
    wanted = decode(files, 32).copy()
    (path,) = entries(cache)
    path.unlink()
    os.mkfifo(path)
    assert (decode(files, 32) == wanted).all()


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
def test_a_full_disk_is_an_error_and_does_not_crash(flat, small_disk, fallocate):
    files = [str(path) for path in sorted(flat.glob("*/*.png"))]
    done = subprocess.run(
        [sys.executable, "-c", FILL, fallocate, *files],
        env={**os.environ, "OFAV2_CACHE": str(small_disk)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3, f"exit code {done.returncode}: {done.stderr[-300:]}"
    assert re.search("the disk is full: [0-9]+ MiB are needed", done.stdout)
    assert [path.suffix for path in small_disk.iterdir()] == [".lock"]
