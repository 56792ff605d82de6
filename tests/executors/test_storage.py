"""Step folders that travel through a URL: a folder, and a real S3-compatible server."""

from __future__ import annotations

import shutil

import pytest

from ofav2_plugins.errors import UserError
from ofav2_plugins.executors.storage import StepStorage

fsspec = pytest.importorskip("fsspec", reason="needs pip install 'ofav2-plugins[ray]'")


@pytest.fixture
def s3(monkeypatch):
    """The URL of an empty bucket on a local server."""
    server = pytest.importorskip("moto.server", reason="needs pip install 'moto[server]'")
    s3fs = pytest.importorskip("s3fs", reason="needs pip install s3fs")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
    ):
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("bucket")
    yield "s3://bucket/steps"
    s3fs.S3FileSystem.clear_instance_cache()
    running.stop()


@pytest.fixture(params=["file", "s3"])
def url(request, tmp_path):
    return request.getfixturevalue("s3") if request.param == "s3" else f"file://{tmp_path / 'storage'}"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*")}


def test_a_folder_arrives_on_another_machine_and_changes_follow(url, tmp_path):
    here, there = tmp_path / "here" / "full-1", tmp_path / "there" / "full-1"
    here.mkdir(parents=True)
    (here / "state.safetensors").write_bytes(b"epoch 1")
    (here / "metrics.jsonl").write_bytes(b"1\n")
    (here / ".state.tmp").write_bytes(b"half a file")
    writer, reader = StepStorage(url), StepStorage(url)
    writer.check()
    writer.push(here)
    reader.fetch(there)
    assert contents(there) == {"state.safetensors": b"epoch 1", "metrics.jsonl": b"1\n"}

    (here / "state.safetensors").unlink()
    (here / "trained.json").write_bytes(b"{}")
    (here / "metrics.jsonl").write_bytes(b"1\n2\n")
    writer.push(here)
    reader.fetch(there)
    assert contents(there) == {"trained.json": b"{}", "metrics.jsonl": b"1\n2\n"}

    (there / "measured.json").write_bytes(b"[]")  # the other machine continues
    reader.push(there)
    writer.fetch(here)
    assert contents(here) == {**contents(there), ".state.tmp": b"half a file"}


def test_only_changed_files_are_uploaded_and_records_come_last(tmp_path, monkeypatch):
    folder, storage = tmp_path / "full-1", StepStorage(f"file://{tmp_path / 'storage'}")
    folder.mkdir()
    for name in ("a.json", "best.safetensors", "metrics.jsonl"):
        (folder / name).write_bytes(b"1")
    written = []
    write = storage._write
    monkeypatch.setattr(
        storage, "_write", lambda path, content: (written.append(path.rpartition("/")[2]), write(path, content))
    )
    storage.push(folder)
    assert written == ["best.safetensors", "metrics.jsonl", "a.json"]
    storage.push(folder)
    assert len(written) == 3
    (folder / "metrics.jsonl").write_bytes(b"12")
    storage.push(folder)
    assert written[3:] == ["metrics.jsonl"]


def test_a_lost_disk_does_not_remove_what_is_in_the_storage(tmp_path):
    folder, url = tmp_path / "full-1", f"file://{tmp_path / 'storage'}"
    folder.mkdir()
    (folder / "state.safetensors").write_bytes(b"epoch 1")
    storage = StepStorage(url)
    storage.push(folder)
    shutil.rmtree(folder)
    storage.push(folder)
    storage.fetch(folder)
    assert contents(folder) == {"state.safetensors": b"epoch 1"}


def test_a_step_that_the_storage_does_not_know_is_offered_once(tmp_path):
    known, new, empty = (tmp_path / name for name in ("known-1", "new-1", "empty-1"))
    for folder in (known, new):
        folder.mkdir()
        (folder / "best.safetensors").write_bytes(b"local")
    storage = tmp_path / "storage"
    (storage / "known-1").mkdir(parents=True)
    (storage / "known-1" / "best.safetensors").write_bytes(b"remote")
    StepStorage(f"file://{storage}").offer([known, new, empty])
    assert (storage / "known-1" / "best.safetensors").read_bytes() == b"remote"
    assert (storage / "new-1" / "best.safetensors").read_bytes() == b"local"
    assert not (storage / "empty-1").exists()


def test_a_storage_that_cannot_be_used_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="storage must be a URL such as"):
        StepStorage("nonsense://x")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        StepStorage(f"file://{tmp_path}/file/steps").check()
