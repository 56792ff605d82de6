"""Files that survive: round trips bit for bit, every damage noticed, a full disk that costs nothing."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from ofav2_plugins.errors import RunError
from ofav2_plugins.utils.files import read_json, write_atomically, write_json
from ofav2_plugins.utils.tensor_files import load_checkpoint, save_checkpoint


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    special = torch.tensor([float("nan"), float("inf"), -0.0, 1e-45])
    return {
        "conv.weight": torch.randn(2, 3, 3, 3, generator=generator).to(memory_format=torch.channels_last),
        "bn.num_batches_tracked": torch.tensor(7),
        "empty": torch.empty(0, 4),
        "half": torch.randn(5, generator=generator).bfloat16(),
        "mask": torch.tensor([True, False, True]),
        "special": special,
        "transposed": torch.randn(3, 2, generator=generator).T.requires_grad_(),
    }


META = {"step": "height-2", "epoch": 3, "seconds": 0.1, "history": [{"val_top1": 12.5}], "name": 'Zoë "x"'}


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "deep" / "state.safetensors"
    save_checkpoint(path, tensors(), META)
    return path


def test_round_trip_is_bit_for_bit(saved):
    loaded, meta = load_checkpoint(saved)
    wanted = tensors()
    assert loaded.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert loaded[name].dtype == tensor.dtype and loaded[name].shape == tensor.shape
        assert bits(loaded[name]) == bits(tensor), name
    assert {key: meta[key] for key in META} == META
    assert os.listdir(saved.parent) == [saved.name]


def test_loaded_tensors_outlive_the_file(saved):
    loaded, _ = load_checkpoint(saved)
    save_checkpoint(saved, {"other": torch.zeros(100)}, {})
    saved.unlink()
    assert bits(loaded["conv.weight"]) == bits(tensors()["conv.weight"])


def assert_noticed(path: Path, content: bytes, what: str) -> None:
    path.write_bytes(content)
    try:
        load_checkpoint(path)
    except RunError as error:
        assert str(path) in str(error), what
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    else:
        raise AssertionError(f"{what}: not noticed")


def test_a_checkpoint_truncated_or_extended_is_named(saved):
    content = saved.read_bytes()
    for length in [*range(0, len(content), 17), len(content) - 1]:
        assert_noticed(saved, content[:length], f"truncated to {length} bytes")
    assert_noticed(saved, content + b"\0", "one byte more")


@pytest.mark.parametrize("flip", [0x01, 0x10])
def test_a_single_changed_bit_is_noticed(saved, flip):
    content = saved.read_bytes()
    for position in range(0, len(content), 2):
        changed = content[:position] + bytes([content[position] ^ flip]) + content[position + 1 :]
        assert_noticed(saved, changed, f"byte {position} of {len(content)} ({content[position : position + 1]!r})")


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"format": "pt"},
        {"meta": "no JSON"},
        {"meta": "[1]"},
        {"meta": '{"format": "other"}', "digest": "0"},
    ],
)
def test_a_foreign_safetensors_file_is_refused(tmp_path, metadata):
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path, metadata=metadata)
    with pytest.raises(RunError, match=r"foreign\.safetensors"):
        load_checkpoint(path)


def test_missing_files_and_folders_are_named(tmp_path):
    for path in (tmp_path / "gone.safetensors", tmp_path):
        with pytest.raises(RunError) as caught:
            load_checkpoint(path)
        assert str(path) in str(caught.value)


def test_json_round_trip_and_damage(tmp_path):
    path = tmp_path / "results.json"
    write_json(path, META)
    assert read_json(path) == META == json.loads(path.read_text())
    content = path.read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"\xff" + content):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"results\.json"):
            read_json(path)
    path.unlink()
    with pytest.raises(RunError, match=r"results\.json"):
        read_json(path)


def test_a_full_disk_keeps_the_old_file_and_leaves_no_part(small_disk):
    checkpoint, results = small_disk / "state.safetensors", small_disk / "results.json"
    save_checkpoint(checkpoint, tensors(), META)
    write_json(results, META)
    before = {path: path.read_bytes() for path in (checkpoint, results)}
    with pytest.raises(RunError, match=r"disk is full.*state\.safetensors"):
        save_checkpoint(checkpoint, {"large": torch.zeros(30_000)}, META)
    with pytest.raises(RunError, match=r"disk is full.*results\.json"):
        write_json(results, "x" * 100_000)
    assert {path: path.read_bytes() for path in small_disk.iterdir()} == before
    loaded, _ = load_checkpoint(checkpoint)
    assert bits(loaded["half"]) == bits(tensors()["half"])


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EIO, "Input/output error"),
        KeyboardInterrupt(),
    ],
)
def test_whatever_stops_a_write_leaves_the_old_file_alone(tmp_path, monkeypatch, error):
    path = tmp_path / "results.json"
    write_atomically(path, b"old")

    def fail(_descriptor: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RunError if isinstance(error, OSError) else type(error)):
        write_atomically(path, b"new")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"results.json": b"old"}


def test_a_file_where_the_folder_should_be_is_named(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(RunError, match=r"results\.json"):
        write_json(tmp_path / "run" / "results.json", META)
    assert (tmp_path / "run").read_text() == "a file"
