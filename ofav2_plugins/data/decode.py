"""Image files to one memory-mapped uint8 array, decoded once and kept in a cache that notices changes."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".gif")
BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)  # what Pillow raises of damage
FORMAT = 3  # raise it when the same files decode to other pixels


def image_files(folder: Path) -> list[Path]:
    """The images in a folder, sorted. Raises UserError, naming the folder, where there is none."""
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from error
    if not files:
        raise UserError(f"class folder {folder} holds no images ({', '.join(SUFFIXES)}); remove it or fill it")
    return files


def decode(files: Sequence[Path], size: int) -> np.ndarray:
    """The images of `files` as uint8 [N, 3, size, size], memory-mapped from the cache.

    Gray, CMYK, palette and transparent images become RGB, photographs that the camera marked as turned (EXIF) are
    turned upright; the shorter side is resized to `size` (antialiased) and the centre cropped. The cache
    (`$OFAV2_CACHE`, or ~/.cache/ofav2) is keyed by each file's path, size and time of change, so it is built again
    where a source file changes.

    Raises:
        UserError: Files that cannot be decoded: the first ones by name, and how many there are.
    """
    if not files:
        return np.empty((0, 3, size, size), dtype=np.uint8)  # an empty file cannot be mapped
    try:
        listing = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}; remove or mend it") from error
    key = hashlib.blake2b(json.dumps([FORMAT, size, listing]).encode(), digest_size=12).hexdigest()
    folder = cache_folder() / key
    shape = (len(files), 3, size, size)
    held = _open(folder, shape)
    if held is not None:
        return held
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{key}-"))
    except OSError as error:
        raise UserError(
            f"the image cache {folder.parent} cannot be written: {error.strerror} (see $OFAV2_CACHE)"
        ) from error
    try:
        _allocate(building / "images.u8", math.prod(shape))
        digest = _build(files, size, building / "images.u8", shape)
        (building / "digest").write_text(digest, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        try:
            building.rename(folder)
        except OSError:  # another process has built the same in the meantime
            pass
    except OSError as error:
        raise UserError(
            f"the image cache {folder} could not be written: {error.strerror}; "
            f"it needs {math.prod(shape) / 2**20:.0f} MiB; is the disk full? (see $OFAV2_CACHE)"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    held = _open(folder, shape)
    if held is None:
        raise UserError(f"the image cache {folder} could not be written; is the disk full? (see $OFAV2_CACHE)")
    return held


def cache_folder() -> Path:
    """Where decoded images are kept: `$OFAV2_CACHE`, or ~/.cache/ofav2."""
    return Path(os.environ.get("OFAV2_CACHE", Path.home() / ".cache" / "ofav2"))


def _open(folder: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The cached array where it is whole: its size and the digest over its content are right."""
    path = folder / "images.u8"
    try:
        if path.stat().st_size != math.prod(shape):
            return None
        images = np.memmap(path, dtype=np.uint8, mode="r", shape=shape)
        return images if _digest(images) == (folder / "digest").read_text(encoding="utf-8") else None
    except (OSError, ValueError):  # ValueError: a digest that is no UTF-8
        return None


def _allocate(path: Path, n_bytes: int) -> None:
    """A file whose bytes have their place on the disk: to write to a map of one without, on a full disk, kills us."""
    with open(path, "wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, n_bytes)
            return
        zeros = bytes(2**20)  # macOS has no posix_fallocate
        for start in range(0, n_bytes, len(zeros)):
            file.write(zeros[: n_bytes - start])


def _build(files: Sequence[Path], size: int, path: Path, shape: tuple[int, ...]) -> str:
    images = np.memmap(path, dtype=np.uint8, mode="r+", shape=shape)
    broken: list[str] = []

    def one(index: int) -> None:
        try:
            images[index] = decode_image(files[index], size)
        except BROKEN as error:
            broken.append(f"{files[index]} ({error})")

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(one, range(len(files))))
    if broken:
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise UserError(f"images that cannot be decoded: {', '.join(sorted(broken)[:3])}{more}; remove or mend them")
    images.flush()
    return _digest(images)


def decode_image(path: Path, size: int, mode: str = "RGB") -> np.ndarray:
    """One image file as uint8 [C, size, size], as `decode` stores it; `mode` is "RGB" (C = 3) or "L" (C = 1)."""
    with Image.open(path) as opened:
        image = _upright(opened)
        if image.mode.startswith("I"):  # 16 bits of gray: Pillow would clip them to 8
            image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
        image = image.convert(mode)
    scale = size / min(image.size)
    if scale != 1:
        sides = (max(size, round(image.width * scale)), max(size, round(image.height * scale)))
        image = image.resize(sides, Image.Resampling.BILINEAR)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    pixels = np.asarray(image.crop((left, top, left + size, top + size)))
    return pixels.reshape(size, size, -1).transpose(2, 0, 1)


def _upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation says that it is looked at; damaged EXIF says nothing."""
    image.load()  # damage of the pixels is raised here, outside of the try
    try:
        image.getexif()  # from now on held by the image, so that
        image.info.pop("exif", None)  # exif_transpose need not write it again: that fails on other tags it knows not
        return ImageOps.exif_transpose(image)
    except Exception:  # of damage to EXIF Pillow raises any kind
        return image


def _digest(images: np.ndarray) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for start in range(0, len(images), 1024):
        digest.update(np.ascontiguousarray(images[start : start + 1024]).data)
    return digest.hexdigest()
