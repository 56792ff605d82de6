"""Downloading a dataset: resumable, checked against its digest, unpacked whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import ssl
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from ..errors import UserError

CHUNK = 1 << 20
SCRATCH = ".unpacking-"
RETRIED = (408, 425, 429)  # answers that mean "later", not "never"


@dataclass(frozen=True)
class Archive:
    """A published archive.

    Args:
        url: Where it is.
        sha256: Its digest.
        folder: The folder inside that holds the dataset.
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

    What has arrived is kept beside it as `<name>.part` and continued by the next attempt, or the next call.

    Args:
        archive: What to fetch.
        target: The folder to put it in.
        progress: Told the bytes that are there, and how many there will be (None where the server does not say).
        timeout: Seconds without a byte after which an attempt is given up.
        attempts: Attempts without any new byte before it is given up altogether.
        pause: Seconds between two attempts.

    Raises:
        UserError: The address does not answer, the bytes are not the published ones, or the disk is full.
    """
    if not archive.url.startswith(("http://", "https://", "ftp://")):
        raise UserError(f"an address must begin with http://, https:// or ftp://, but got {archive.url!r}")
    if not re.fullmatch("[0-9a-f]{64}", archive.sha256):
        raise UserError(f"a SHA-256 must be 64 hexadecimal digits, but got {archive.sha256!r}")
    dataset = target / archive.folder
    if dataset.exists():
        raise UserError(f"{dataset} is there already; remove it to fetch it again, or give another --to")
    part = target / f"{archive.folder}.part"
    try:
        target.mkdir(parents=True, exist_ok=True)
        for left in target.glob(f"{SCRATCH}*"):  # of a killed process
            shutil.rmtree(left)
        _download(archive.url, part, progress, timeout, attempts, pause)
        if (found := _sha256(part)) != archive.sha256:
            part.unlink()
            raise UserError(
                f"{archive.url} gave a file whose SHA-256 must be {archive.sha256}, but got {found}; it was removed; "
                "try again, or give another --url"
            )
        try:
            _unpack(part, dataset)
        finally:
            part.unlink()
    except OSError as error:
        raise UserError(f"{error.filename or target} cannot be written: {error.strerror or error}") from error
    return dataset


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
                raise UserError(f"{url} answers {code}; give another --url") from error
            arrived = (part.stat().st_size if part.exists() else 0) > before
            failures = 0 if arrived else failures + 1
            if failures >= attempts:
                kept = f"; {before / 2**20:.0f} MiB are kept in {part}, run again to continue" if before else ""
                raise UserError(f"{url} cannot be downloaded: {getattr(error, 'reason', error)}{kept}") from error
            time.sleep(pause)


class _Cut(Exception):
    """The connection ended before the announced size."""


def _continue(url: str, part: Path, before: int, progress: Callable[[int, int | None], None], timeout: float) -> None:
    """One attempt: append what is missing; from the start where the server cannot continue."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={before}-"} if before else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and before:  # nothing is missing, or the part is not this file's: the digest tells
            return
        raise
    with response:
        begins = (response.headers.get("Content-Range") or "").startswith(f"bytes {before}-")
        done = before if response.status == 206 and begins else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else None
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
    """Unpack the one folder of the archive beside its final place, then move it there."""
    with tempfile.TemporaryDirectory(dir=dataset.parent, prefix=SCRATCH) as scratch:
        try:
            with zipfile.ZipFile(path) as packed:
                packed.extractall(scratch)  # zipfile keeps every name below `scratch`
        except zipfile.BadZipFile as error:
            raise UserError(f"{path} is no zip file: {error}") from error
        if not (Path(scratch) / dataset.name).is_dir():
            raise UserError(f"{path} has no folder {dataset.name}; is it another dataset's?")
        os.replace(Path(scratch) / dataset.name, dataset)


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
