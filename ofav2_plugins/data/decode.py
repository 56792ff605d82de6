"""Decodes image files once into a memory-mapped uint8 array, which is kept in a cache that detects changed files."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import ExifTags, Image, ImageOps

from ..errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".gif")
BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)  # raised for damaged files
FORMAT = 4  # increase it when the decoded pixels or the storage format change
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def image_files(folder: Path) -> list[Path]:
    """The images in a folder, sorted.

    Raises:
        UserError: There are no images, the folder cannot be read, or an entry with an image's name is not a regular
            file (a folder, a named pipe, a broken link).
    """
    try:
        with os.scandir(folder) as entries:
            found = {entry.name: entry.is_file() for entry in entries if entry.name.lower().endswith(SUFFIXES)}
    except OSError as error:  # also for a link to itself
        raise UserError(f"{error.filename or folder} cannot be read: {error.strerror}") from error
    for name in sorted(found):
        if not found[name]:
            raise UserError(
                f"{folder / name} must be an image file, but is not a regular file (or is a broken link); remove it"
            )
    if not found:
        raise UserError(
            f"class folder {folder} must have images ({', '.join(SUFFIXES)}), but has none; remove it or add some"
        )
    return [folder / name for name in sorted(found)]


def decode(files: Sequence[Path], size: int) -> np.ndarray:
    """The images of `files` as uint8 [N, 3, size, size], memory-mapped from the cache.

    Grayscale, CMYK, palette and transparent images become RGB. The EXIF orientation is applied, the shorter side is
    resized to `size` (antialiased), and the centre is cropped.

    The cache (`$OFAV2_CACHE`, or ~/.cache/ofav2) has one file for each list of images. Its name consists of a hash of
    the images' paths, sizes and modification times, a hash of its own content, and the user ID. So a changed image is
    decoded again, and a changed entry is not used. Several users can share a cache folder: an entry is used only if
    no other user (except root) can change it. If the folder cannot be written, ~/.cache/ofav2 is used.

    Raises:
        UserError: Some files cannot be decoded (the message has their number and the first names), or the cache
            cannot be written.
    """
    if not files:
        return np.empty((0, 3, size, size), dtype=np.uint8)  # an empty file cannot be mapped
    try:
        listing = [(os.path.realpath(path), *_size_and_time(path)) for path in files]
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}; remove or replace it") from error
    key = hashlib.blake2b(json.dumps([FORMAT, size, listing]).encode(), digest_size=12).hexdigest()
    shape = (len(files), 3, size, size)
    folders = list(dict.fromkeys([cache_folder(), default_cache_folder()]))
    for folder in folders:
        if (images := _find(folder, key, shape)) is not None:
            return images
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f".{key}-{_user()}.lock"):  # two processes must not decode the same images
                found = _find(folder, key, shape)
                return _build(files, folder, key, shape) if found is None else found
        except OSError as error:
            if error.errno in FORBIDDEN and folder != folders[-1]:
                logging.getLogger(__name__).warning("%s cannot be written; using %s instead", folder, folders[-1])
                continue
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            needed = f" (the disk is full: {math.prod(shape) / 2**20:.0f} MiB are needed)" if full else ""
            raise UserError(
                f"the image cache {folder} cannot be written: {error.strerror}{needed}; "
                "set $OFAV2_CACHE to another folder"
            ) from error
    raise AssertionError("unreachable: the last folder returns or raises")


def cache_folder() -> Path:
    """The folder of decoded images: `$OFAV2_CACHE`; if it is not set or empty, `default_cache_folder()`."""
    chosen = os.environ.get("OFAV2_CACHE")
    return Path(chosen) if chosen else default_cache_folder()


def default_cache_folder() -> Path:
    """~/.cache/ofav2. Raises UserError if there is no home folder."""
    try:
        return Path.home() / ".cache" / "ofav2"
    except RuntimeError as error:
        raise UserError(f"the image cache needs a folder: {error} Set $OFAV2_CACHE") from error


def _size_and_time(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0  # Windows has no user IDs


def _find(folder: Path, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """The cached array; None unless there is an intact one that only this user or root can change."""
    for path in _entries(folder, f"{key}-*.u8"):
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                if not _is_trusted(status) or status.st_size != math.prod(shape):
                    continue
                images = np.memmap(file, dtype=np.uint8, mode="r", shape=shape)
        except OSError:
            continue
        if path.name.startswith(f"{key}-{_digest(key, images)}-"):
            return images
    return None


def _entries(folder: Path, pattern: str) -> Iterator[Path]:
    """Regular files in a folder: opening a named pipe would block forever."""
    try:
        yield from sorted(path for path in folder.glob(pattern) if path.is_file() and not path.is_symlink())
    except OSError:
        return


def _is_trusted(status: os.stat_result) -> bool:
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid in (_user(), 0) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _digest(key: str, images: np.ndarray) -> str:
    digest = hashlib.blake2b(key.encode(), digest_size=16)
    for start in range(0, len(images), 1024):
        digest.update(np.ascontiguousarray(images[start : start + 1024]).data)
    return digest.hexdigest()


def _build(files: Sequence[Path], folder: Path, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Decode into a new entry of the cache; the caller holds its lock."""
    for obsolete in [*_entries(folder, f".{key}-{_user()}-*"), *_entries(folder, f"{key}-*-{_user()}.u8")]:
        obsolete.unlink()  # damaged, or left by a killed process
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=f".{key}-{_user()}-")  # only this user can read and write it
    os.close(descriptor)
    building = Path(name)
    try:
        _allocate(building, math.prod(shape))
        images = np.memmap(building, dtype=np.uint8, mode="r+", shape=shape)
        _decode_all(files, images)
        images.flush()
        final = folder / f"{key}-{_digest(key, images)}-{_user()}.u8"
        os.replace(building, final)
        return np.memmap(final, dtype=np.uint8, mode="r", shape=shape)
    finally:
        building.unlink(missing_ok=True)


def _allocate(path: Path, n_bytes: int) -> None:
    """Reserve disk space, because writing to a memory map on a full disk would kill the process."""
    with open(path, "wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, n_bytes)
            return
        zeros = bytes(2**20)  # macOS has no posix_fallocate
        for start in range(0, n_bytes, len(zeros)):
            file.write(zeros[: n_bytes - start])


def _decode_all(files: Sequence[Path], images: np.ndarray) -> None:
    """Decode every file into its row of `images` [N, 3, S, S]. Raises UserError, naming the broken ones."""
    broken: list[str] = []

    def decode_row(index: int) -> None:
        try:
            images[index] = decode_image(files[index], images.shape[-1])
        except BROKEN as error:
            broken.append(f"{files[index]} ({error})")

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(decode_row, range(len(files))))
    if broken:
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise UserError(f"images that cannot be decoded: {', '.join(sorted(broken)[:3])}{more}; remove or replace them")


def decode_image(path: Path, size: int, mode: str = "RGB") -> np.ndarray:
    """One image file as uint8 [C, size, size], as `decode` stores it; `mode` is "RGB" (C = 3) or "L" (C = 1)."""
    with Image.open(path) as opened:
        image = _converted(opened, mode)
    scale = size / min(image.size)
    if scale != 1:
        sides = (max(size, round(image.width * scale)), max(size, round(image.height * scale)))
        image = image.resize(sides, Image.Resampling.BILINEAR)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    pixels = np.asarray(image.crop((left, top, left + size, top + size)))
    return pixels.reshape(size, size, -1).transpose(2, 0, 1)


def crop_image(path: Path, crop: np.ndarray, resolution: int) -> np.ndarray:
    """A part of an image file as uint8 [3, resolution, resolution]: cut out, then resized (bilinear, antialiased).

    Args:
        path: The file.
        crop: Width, height, left and top as fractions of the upright image's sides, and -1 to mirror it, else 1.
        resolution: In pixels. A JPEG file is decoded at 1/2, 1/4 or 1/8 of its size (libjpeg's scaling) if the crop
            then still has `resolution` x `resolution` pixels or more.
    """
    with Image.open(path) as opened:
        sides = np.array(opened.size[::-1] if _lies_on_its_side(opened) else opened.size)
        corner, size = (crop[2:4] * sides).round(), (crop[:2] * sides).round()  # rounded to pixels of the file
        shrink = (resolution / size).max()
        if shrink < 1:
            opened.draft(None, (math.ceil(shrink * opened.width), math.ceil(shrink * opened.height)))
        image = _converted(opened, "RGB")
    start, end = corner * image.size / sides, (corner + size) * image.size / sides
    outer = (*np.floor(start).astype(int).tolist(), *np.ceil(end).astype(int).tolist())
    box = (*(start - outer[:2]), *(end - outer[:2]))
    pixels = np.asarray(image.crop(outer).resize((resolution, resolution), Image.Resampling.BILINEAR, box))
    return (pixels[:, ::-1] if crop[4] < 0 else pixels).transpose(2, 0, 1)


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file in pixels, with its EXIF orientation applied; the pixels are not read."""
    with Image.open(path) as opened:
        return (opened.height, opened.width) if _lies_on_its_side(opened) else opened.size


def _converted(opened: Image.Image, mode: str) -> Image.Image:
    """The pixels of an open image, upright, in an 8-bit mode."""
    image = _upright(opened)
    if image.mode.startswith("I"):  # 16 bits of gray: Pillow would clip them to 8
        image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
    return image.convert(mode)


def _lies_on_its_side(image: Image.Image) -> bool:
    """Whether the image's EXIF orientation swaps width and height."""
    try:
        return bool(5 <= image.getexif().get(ExifTags.Base.Orientation, 1) <= 8)
    except Exception:  # as in `_upright`
        return False


def _upright(image: Image.Image) -> Image.Image:
    """The image with its EXIF orientation applied; unchanged if its EXIF data are damaged."""
    image.load()  # raises for damaged pixels, outside the try
    try:
        image.getexif()  # cached by the image, so that
        image.info.pop("exif", None)  # exif_transpose does not write it again, which fails for unknown tags
        return ImageOps.exif_transpose(image)
    except Exception:  # for damaged EXIF data, Pillow raises exceptions of any kind
        return image
