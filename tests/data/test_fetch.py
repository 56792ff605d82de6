"""Downloads from a local server that breaks off, stalls, serves wrong bytes, or cannot continue."""

from __future__ import annotations

import hashlib
import io
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from ofav2_plugins.data.fetch import Archive, fetch
from ofav2_plugins.errors import UserError


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        packed.writestr("tiny/wnids.txt", "n01443537\n")
        packed.writestr("tiny/noise.bin", np.random.default_rng(0).bytes(3_000_000))
    return content.getvalue()


CONTENT = zipped()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; `plan` lists how it misbehaves in each request, `seen` the requested ranges."""

    plan: list[str]
    seen: list[str | None]
    daemon_threads = True


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        requested = self.headers.get("Range")
        self.server.seen.append(requested)
        how = self.server.plan.pop(0) if self.server.plan else "well"
        if how == "500":
            return self.send_error(500)
        if how in ("404", "429"):
            return self.send_error(int(how))
        content = CONTENT[::-1] if how == "wrong" else CONTENT
        start = int(re.fullmatch(r"bytes=(\d+)-", requested)[1]) if requested and how != "no range" else 0
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        try:
            if how == "breaks off":
                self.wfile.write(rest[:1_200_000])
                self.connection.close()
            elif how == "stalls":
                self.wfile.write(rest[:1_200_000])
                self.wfile.flush()
                time.sleep(3)
            else:
                self.wfile.write(rest)
        except OSError:  # the client has given up
            pass

    def log_message(self, *args):
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.plan, running.seen = [], []
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def archive(server) -> Archive:
    return Archive(f"http://127.0.0.1:{server.server_port}/tiny.zip", hashlib.sha256(CONTENT).hexdigest(), "tiny")


def quick(archive, target, **options):
    return fetch(archive, target, timeout=1, pause=0.01, **options)


def assert_there(folder):
    with zipfile.ZipFile(io.BytesIO(CONTENT)) as packed:
        assert (folder / "noise.bin").read_bytes() == packed.read("tiny/noise.bin")
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    "plan", [[], ["breaks off", "breaks off"], ["stalls"], ["500", "500"], ["breaks off", "500", "stalls"], ["429"]]
)
def test_a_download_that_breaks_off_or_stalls_is_continued(server, archive, tmp_path, plan):
    server.plan = list(plan)
    reports = []
    folder = quick(archive, tmp_path / "data", progress=lambda done, total: reports.append((done, total)))
    assert_there(folder)
    assert reports[-1] == (len(CONTENT), len(CONTENT))
    continued = [requested for requested in server.seen if requested]
    assert bool(continued) == any(how in plan for how in ("breaks off", "stalls"))


def test_a_download_starts_again_if_the_server_cannot_continue_it(server, archive, tmp_path):
    server.plan = ["breaks off", "no range"]
    assert_there(quick(archive, tmp_path))


def test_a_later_call_continues_the_download_of_an_earlier_one(server, archive, tmp_path):
    server.plan = ["breaks off", *["500"] * 9]
    with pytest.raises(UserError, match=r"1 MiB are kept in .*tiny\.part; run the command again"):
        quick(archive, tmp_path, attempts=3)
    kept = (tmp_path / "tiny.part").stat().st_size
    server.plan = []
    assert_there(quick(archive, tmp_path))
    assert server.seen[-1] == f"bytes={kept}-"


def test_a_file_with_a_wrong_digest_is_removed_and_reported(server, archive, tmp_path):
    server.plan = ["wrong"]
    with pytest.raises(UserError, match="must have the SHA-256"):
        quick(archive, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_servers_missing_files_and_existing_folders_are_errors(server, archive, tmp_path):
    server.plan = ["404"]
    with pytest.raises(UserError, match="404"):
        quick(archive, tmp_path)
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9/"):
        quick(Archive("http://127.0.0.1:9/x.zip", archive.sha256, "tiny"), tmp_path, attempts=2)
    with pytest.raises(UserError, match="64 hexadecimal digits, but got 'abc'"):
        quick(Archive(archive.url, "abc", "tiny"), tmp_path)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "mine").write_text("kept")
    with pytest.raises(UserError, match="already exists"):
        quick(archive, tmp_path)
    assert (tmp_path / "tiny" / "mine").read_text() == "kept"


WRONG_URLS = [
    "foo", "", "http:", "http://", "http:///x.zip", "file:///etc/passwd", "http://[::1/x.zip", "http://host:port/x.zip",
    "http://host:99999/x.zip", "http://host/two words.zip", "http://host/x.zip\n", "http://h\xf6st/x.zip",
    f"http://{'a' * 70}.org/x.zip", "http://..org/x.zip", "http://host/\udcff.zip", "javascript:alert(1)",
]  # fmt: skip


@pytest.mark.parametrize("url", WRONG_URLS)
def test_a_malformed_address_is_refused_at_once(archive, tmp_path, url):
    with pytest.raises(UserError, match="an address must be http://host/path") as caught:
        fetch(Archive(url, archive.sha256, "tiny"), tmp_path / "data", pause=60)
    assert "\n" not in str(caught.value) and str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == []


def encrypted(content: bytes) -> bytes:
    """A zip file whose entries say that they are encrypted."""
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = 0
        while (start := content.find(signature, start)) >= 0:
            content = content[: start + offset] + bytes([content[start + offset] | 1]) + content[start + offset + 1 :]
            start += 4
    return content


def another_method(content: bytes) -> bytes:
    """A zip file whose last entry is compressed by an unknown method."""
    start = content.rfind(b"PK\x01\x02") + 10
    return content[:start] + b"\x63" + content[start + 1 :]


def one_byte_off(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda content: b"text", "not a zip file"),
        (lambda content: content[:-1000], "not a zip file"),
        (one_byte_off, "Bad CRC-32"),
        (encrypted, "encrypted"),
        (another_method, "compression"),
    ],
    ids=["text", "truncated", "one byte off", "encrypted", "another method"],
)
def test_an_archive_that_can_never_be_unpacked_is_named_and_removed(archive, tmp_path, monkeypatch, change, problem):
    content = change(CONTENT)
    monkeypatch.setattr(sys.modules[__name__], "CONTENT", content)
    with pytest.raises(UserError, match=rf"tiny\.part cannot be unpacked and was removed: .*{problem}"):
        quick(Archive(archive.url, hashlib.sha256(content).hexdigest(), "tiny"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_of_another_dataset_is_named_and_removed(archive, tmp_path):
    with pytest.raises(UserError, match="no folder cifar"):
        quick(Archive(archive.url, archive.sha256, "cifar"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_while_unpacking_keeps_the_download(server, archive, make_disk):
    disk = make_disk("5m")  # the archive has 3 MB, and so has its content
    with pytest.raises(UserError, match=r"No space left.*; kept in .*tiny\.part; run the command again"):
        quick(archive, disk)
    assert [path.name for path in disk.iterdir()] == ["tiny.part"]
    make_disk("8m")
    server.plan, requests = ["404"] * 9, len(server.seen)
    assert_there(quick(archive, disk))
    assert len(server.seen) == requests  # nothing is downloaded again


def test_a_full_disk_while_downloading_keeps_the_received_part(server, archive, make_disk):
    disk = make_disk("2m")
    with pytest.raises(UserError, match=r"No space left.*; kept in .*tiny\.part; run the command again"):
        quick(archive, disk)
    kept = (disk / "tiny.part").stat().st_size
    assert kept >= 2**20
    make_disk("8m")
    assert_there(quick(archive, disk))
    assert server.seen[-1] == f"bytes={kept}-"


UNPACK = """
import sys
from pathlib import Path
from ofav2_plugins.data.fetch import Archive, fetch
fetch(Archive("http://127.0.0.1:9/x.zip", sys.argv[1], "tiny"), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_stop_while_unpacking_keeps_the_download(tmp_path, stop):
    part = tmp_path / "tiny.part"
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as packed:
        for i in range(15):
            packed.writestr(f"tiny/{i}", bytes(10_000_000))
    digest = hashlib.sha256(part.read_bytes()).hexdigest()
    call = [sys.executable, "-c", UNPACK, digest, str(tmp_path)]
    process = subprocess.Popen(call, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob(".unpacking-*/tiny/1")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(stop)
    assert process.wait() != 0
    assert part.exists() and not (tmp_path / "tiny").exists()
    if stop == signal.SIGINT:
        assert list(tmp_path.iterdir()) == [part]
    subprocess.run(call, check=True)
    assert len(list((tmp_path / "tiny").iterdir())) == 15 and [p.name for p in tmp_path.iterdir()] == ["tiny"]


def test_the_command_takes_an_address_and_a_digest(archive, tmp_path):
    call = [sys.executable, "-m", "ofav2_plugins", "data", "fetch", "tiny-imagenet", "--to", str(tmp_path)]
    wrong = subprocess.run([*call, "--url", archive.url], capture_output=True, text=True)
    assert wrong.returncode == 1 and "must have the SHA-256 6198c8ae" in wrong.stderr
    other = subprocess.run([*call, "--url", archive.url, "--sha256", archive.sha256], capture_output=True, text=True)
    assert other.returncode == 1 and "no folder tiny-imagenet-200" in other.stderr
    unknown = subprocess.run([*call[:-3], "imagenet", "--to", str(tmp_path)], capture_output=True, text=True)
    assert unknown.returncode == 1 and "tiny-imagenet" in unknown.stderr
