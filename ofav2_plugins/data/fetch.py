"""Downloads a dataset: continues after interruptions, verifies the digest, unpacks completely or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import ssl
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from ..errors import UserError

CHUNK = 1 << 20
SCRATCH = ".unpacking-"
RETRIED = (408, 425, 429)  # client errors that are worth another attempt; so are all server errors (5xx)


@dataclass(frozen=True)
class Archive:
    """A published archive.

    Args:
        url: Its address.
        sha256: The SHA-256 of the file, 64 hexadecimal digits.
        folder: The folder in the archive that contains the dataset.
    """

    url: str
    sha256: str
    folder: str


ARCHIVES = {
    "tiny-imagenet": Archive(
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
        "tiny-imagenet-200",
    )
}


def fetch(
    archive: Archive,
    target: Path,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
    *,
    timeout: float = 30.0,
    attempts: int = 5,
    pause: float = 2.0,
) -> Path:
    """Download and unpack an archive into `target`; returns the dataset's folder.

    The download is kept in `<folder>.part` until the dataset is unpacked, and continued by the next attempt or the
    next call. An interruption or a full disk loses nothing that has been downloaded.

    Args:
        archive: The archive.
        target: The folder that will contain the dataset.
        progress: Called with the number of bytes downloaded so far and in total (None if unknown).
        timeout: An attempt fails after this many seconds without a byte.
        attempts: The download fails after this many consecutive attempts without a new byte.
        pause: Seconds between two attempts.

    Raises:
        UserError: The address is malformed, the server does not respond, the file has the wrong digest or is not a
            usable zip file, or the disk is full.
    """
    check_url(archive.url)
    if not re.fullmatch("[0-9a-f]{64}", archive.sha256):
        raise UserError(f"a SHA-256 must be 64 hexadecimal digits, but got {archive.sha256!r}")
    dataset = target / archive.folder
    if dataset.exists():
        raise UserError(f"{dataset} already exists; remove it to fetch the dataset again, or choose another --to")
    part = target / f"{archive.folder}.part"
    try:
        target.mkdir(parents=True, exist_ok=True)
        for scratch in target.glob(f"{SCRATCH}*"):  # left by a killed process
            shutil.rmtree(scratch)
        if not part.exists() or _sha256(part) != archive.sha256:
            _download(archive.url, part, progress, timeout, attempts, pause)
            if (found := _sha256(part)) != archive.sha256:
                part.unlink()
                raise UserError(
                    f"{archive.url} must have the SHA-256 {archive.sha256}, but got {found}; the file was removed; "
                    "try again, or choose another --url"
                )
        _unpack(part, dataset)
        part.unlink()
    except OSError as error:
        kept = f"; the download is kept in {part}; run the command again to continue" if part.exists() else ""
        raise UserError(f"{error.filename or target} cannot be written: {error.strerror or error}{kept}") from error
    return dataset


def check_url(url: str) -> None:
    """Raise UserError unless `url` is a well-formed http, https or ftp address."""
    try:
        parts = urllib.parse.urlsplit(url)
        parts.port  # noqa: B018 - parses it
        (parts.hostname or "").encode("idna")
        url.encode("ascii")
        problem = "" if parts.scheme in ("http", "https", "ftp") and parts.hostname else "no such scheme or no host"
        problem = "white space" if re.search(r"\s", url) else problem
    except ValueError as error:  # UnicodeError is one
        problem = str(error)
    if problem:
        raise UserError(
            f"an address must be http://host/path, https://host/path or ftp://host/path, but got {url!r} ({problem})"
        )


def _download(
    url: str, part: Path, progress: Callable[[int, int | None], None], timeout: float, attempts: int, pause: float
) -> None:
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _continue(url, part, before, progress, timeout)
            return
        except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError, ssl.SSLError, _Cut) as error:
            code = error.code if isinstance(error, urllib.error.HTTPError) else 0
            if 400 <= code < 500 and code not in RETRIED:
                raise UserError(f"{url} returned HTTP status {code}; choose another --url") from error
            arrived = (part.stat().st_size if part.exists() else 0) > before
            failures = 0 if arrived else failures + 1
            if failures >= attempts:
                kept = (
                    f"; {before / 2**20:.0f} MiB are kept in {part}; run the command again to continue"
                    if before
                    else ""
                )
                raise UserError(f"{url} cannot be downloaded: {getattr(error, 'reason', error)}{kept}") from error
            time.sleep(pause)


class _Cut(Exception):
    """The connection ended before the announced size."""


def _continue(url: str, part: Path, before: int, progress: Callable[[int, int | None], None], timeout: float) -> None:
    """One attempt: append the missing bytes, or start over if the server cannot continue."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={before}-"} if before else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and before:  # complete, or part of another file: the digest decides
            return
        raise
    with response:
        begins = (response.headers.get("Content-Range") or "").startswith(f"bytes {before}-")
        done = before if response.status == 206 and begins else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else None
        with open(part, "ab" if done else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
    if total is not None and done < total:
        raise _Cut(f"the connection ended after {done} of {total} bytes")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _unpack(path: Path, dataset: Path) -> None:
    """Unpack the dataset's folder of the archive, then move it to its final place.

    Raises:
        UserError: It is not a usable zip file of this dataset; the file is removed, because a retry would fail too.
    """
    with tempfile.TemporaryDirectory(dir=dataset.parent, prefix=SCRATCH) as scratch:
        try:
            with zipfile.ZipFile(path) as packed:
                packed.extractall(scratch)  # zipfile keeps every name below `scratch`
            problem = "" if (Path(scratch) / dataset.name).is_dir() else f"it has no folder {dataset.name}"
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            problem = f"it is not a zip file or is damaged: {error}"
        except (RuntimeError, NotImplementedError) as error:  # encrypted, or compressed by an unknown method
            problem = str(error)
        if problem:
            path.unlink()
            raise UserError(f"{path} cannot be unpacked and was removed: {problem}; give another --url and --sha256")
        os.replace(Path(scratch) / dataset.name, dataset)


def free_bytes(folder: Path) -> int:
    """Number of free bytes on the disk of a folder, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
