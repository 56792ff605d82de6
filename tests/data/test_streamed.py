"""Image files that are decoded for each batch: the same evaluation as from the cache, exact crops, any workers."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from support.commands import SMALL, ofav2, overrides
from support.pictures import images_of, photograph
from torchvision.transforms import functional

from ofav2_plugins import registry
from ofav2_plugins.augmentation.base import BatchContext
from ofav2_plugins.augmentation.crop_flip import RATIOS, CropFlip, crop_parameters
from ofav2_plugins.data import image_folder, streamed
from ofav2_plugins.data.base import DataSplits
from ofav2_plugins.data.batches import calibration_batches, eval_batches, train_batches
from ofav2_plugins.data.decode import crop_image
from ofav2_plugins.data.streamed import StreamedImages
from ofav2_plugins.data.workers import in_order, worker_count
from ofav2_plugins.errors import RunError, UserError
from ofav2_plugins.utils.seeding import derive_seed
from ofav2_plugins.utils.tensor_files import load_checkpoint

SIZES = [(90, 60), (64, 100), (70, 70), (128, 96), (61, 47)]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """Two classes of JPEG files of several sizes: 24 for training, 10 for validation, 10 for testing."""
    root = tmp_path_factory.mktemp("photographs")
    for part, n in (("train", 12), ("val", 5), ("test", 5)):
        for label, name in enumerate(("cat", "dog")):
            (root / part / name).mkdir(parents=True)
            for i in range(n):
                picture = photograph(SIZES[i % len(SIZES)], seed=1000 * label + 100 * len(part) + i)
                picture.save(root / part / name / f"{i}.jpg", quality=95)
    return root


def load(root: Path, **settings) -> DataSplits:
    return registry.load(registry.DATASETS, {"name": "image-folder", **settings}).load(root)


def epoch_of(data: DataSplits, augmentations=("crop_flip",), **changes) -> list[tuple[torch.Tensor, torch.Tensor]]:
    plugins = [registry.load(registry.AUGMENTATIONS, plugin) for plugin in augmentations]
    settings = {"batch_size": 5, "resolutions": (20, 24, 32), "seed": 3, "phase": "kernel", "epoch": 1, **changes}
    return list(train_batches(data, augmentations=plugins, **settings))


def assert_same(got, wanted):
    assert len(got) == len(wanted) > 0
    for batch, wanted_batch in zip(got, wanted, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(batch, wanted_batch, strict=True))


@pytest.mark.parametrize("layout", ["train, val, test", "classes only"])
def test_whole_images_and_evaluation_are_those_of_the_cache(photographs, layout):
    root = photographs if layout == "train, val, test" else photographs / "train"
    cached, streaming = load(root, streaming=False), load(root, streaming=True)
    assert cached.resolutions == streaming.resolutions and cached.side == streaming.side
    assert cached.fingerprint != streaming.fingerprint  # their training batches differ
    for part in ("train", "validation", "test"):
        mine, wanted = getattr(streaming, part), getattr(cached, part)
        assert isinstance(mine.images, StreamedImages) and mine.shape == wanted.shape
        assert (images_of(mine) == images_of(wanted)).all() and (mine.labels == wanted.labels).all()
        assert_same(list(eval_batches(streaming, mine, 32, 4)), list(eval_batches(cached, wanted, 32, 4)))


def test_the_number_of_workers_changes_no_batch(photographs, monkeypatch):
    data, found = load(photographs, streaming=True), {}
    for workers in (0, 1, 2):
        monkeypatch.setenv("OFAV2_DATA_WORKERS", str(workers))
        state = torch.get_rng_state()
        found[workers] = [
            *epoch_of(data),
            *epoch_of(data, ("crop_flip", "randaugment", "mixup")),
            *eval_batches(data, data.test, 32, 4),
            *((batch,) for batch in calibration_batches(data, 24, 11, 4, seed=1)),
        ]
        assert torch.equal(torch.get_rng_state(), state), "the global generator must not be drawn from"
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])


def test_an_epoch_started_later_is_the_rest_of_it_and_ranks_share_each_batch(photographs):
    data = load(photographs, streaming=True)
    whole = epoch_of(data)
    assert len(whole) == 4 and len({images.shape[-1] for images, _ in whole}) > 1
    assert_same(epoch_of(data, start_step=3), whole[3:])
    ranks = [epoch_of(data, rank=rank, world_size=2) for rank in (0, 1)]
    assert_same([[torch.cat(parts) for parts in zip(*batches, strict=True)] for batches in zip(*ranks, strict=True)],
                whole)  # fmt: skip


@pytest.mark.parametrize("first", ["randaugment", "trivialaugment", "mixup", "cutmix"])
def test_augmentations_that_do_not_crop_see_the_images_of_the_cache(photographs, first):
    cached, streaming = load(photographs, streaming=False), load(photographs, streaming=True)
    augmentations = (first,) if first in ("mixup", "cutmix") else (first, "crop_flip", "mixup")
    assert_same(epoch_of(streaming, augmentations), epoch_of(cached, augmentations))


def test_a_batch_has_the_crops_that_torchvision_cuts_out_of_the_photographs(photographs):
    """At 64 pixels no file is decoded at a fraction of its size."""
    data = load(photographs, streaming=True)
    ((images, labels),) = epoch_of(data, batch_size=24, resolutions=(64,))
    order = [int(i) for i in labels]
    assert sorted(order) == [0] * 12 + [1] * 12
    context = BatchContext(24, slice(0, 24), 64, 2, (3, "kernel", 1, 0, "crop"))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    shuffled = np.random.default_rng(derive_seed(3, "kernel", 1, "order")).permutation(24)
    opened = [Image.open(data.train.images.path(i)) for i in shuffled]
    crops = CropFlip().crops(np.array([picture.size for picture in opened]), context).double()
    for image, picture, (width, height, left, top, mirrored) in zip(images, opened, crops.tolist(), strict=True):
        box = [round(top * picture.height), round(left * picture.width),
               round(height * picture.height), round(width * picture.width)]  # fmt: skip
        wanted = functional.resized_crop(picture, *box, [64, 64])
        wanted = functional.hflip(wanted) if mirrored < 0 else wanted
        torch.testing.assert_close(image, (functional.to_tensor(wanted) - mean) / std, atol=1e-5, rtol=0)


@pytest.mark.parametrize("crop", [(1, 1, 0, 0, 1), (0.5, 0.75, 0.25, 0.125, -1)])
def test_files_decoded_at_a_fraction_of_their_size_look_the_same(tmp_path, crop):
    picture = photograph((500, 375))
    picture.save(tmp_path / "large.jpg", quality=95)
    picture.save(tmp_path / "large.png")
    small, full = (crop_image(tmp_path / f"large.{kind}", np.array(crop), 48).astype(int) for kind in ("jpg", "png"))
    assert np.abs(small - full).max() <= 8 and np.abs(small - full).mean() < 1.5  # of 255 levels


@pytest.mark.parametrize("orientation", range(1, 9))
def test_crops_of_rotated_photographs_are_those_of_the_upright_image(tmp_path, orientation):
    picture, exif = photograph((80, 60)), Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "rotated.png", exif=exif)
    with Image.open(tmp_path / "rotated.png") as opened:
        upright = ImageOps.exif_transpose(opened)
    upright.save(tmp_path / "upright.png")
    images = StreamedImages(tmp_path, [tmp_path / "rotated.png", tmp_path / "upright.png"], 32)
    assert images.sizes(np.arange(2)).tolist() == [list(upright.size)] * 2
    rotated, wanted = images.crops(np.arange(2), np.array([[0.5, 0.75, 0.25, 0.1, 1]] * 2), 24)
    assert (rotated == wanted).all()


def test_crops_of_oblong_images_have_torchvisions_ratios_and_fall_back_to_the_centre():
    sides = np.array([(500, 375), (375, 500), (1000, 30), (30, 1000)]).repeat(250, axis=0)
    crops = crop_parameters(1000, sides, 0.5, False, torch.Generator().manual_seed(0)).double().numpy()
    width, height = (crops[:, :2] * sides).round().T
    assert (width / height > RATIOS[0] * 0.95).all() and (width / height < RATIOS[1] * 1.05).all()
    area = width * height / sides.prod(1)
    assert (area[:500] > 0.49).all() and area[:500].max() > 0.9
    left, top = (crops[:, 2:4] * sides).round().T
    assert (left[500:750] == 480).all() and (width[500:750] == 40).all() and (height[500:750] == 30).all()
    assert (top[750:] == 480).all() and (height[750:] == 40).all()


def test_the_fingerprint_depends_on_names_sizes_and_a_sample_of_the_contents(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(streamed, "SAMPLES", 2)  # the first and the last image of each split
    root = shutil.copytree(photographs, tmp_path / "copy")
    before = load(root, streaming=True).fingerprint
    assert before == load(photographs, streaming=True).fingerprint  # places and times do not matter

    def changed(path: str, content: bytes) -> bool:
        old = (root / path).read_bytes()
        (root / path).write_bytes(content or old[:-3] + bytes([old[-3] ^ 1]) + old[-2:])
        found = load(root, streaming=True).fingerprint
        (root / path).write_bytes(old)
        return found != before

    assert changed("train/cat/0.jpg", b"")  # of the sample
    assert not changed("train/cat/5.jpg", b"")  # not of the sample: its size alone is looked at
    assert changed("train/cat/5.jpg", (root / "train/cat/5.jpg").read_bytes() + b"\0")
    assert load(root, streaming=True).fingerprint == before
    (root / "train/cat/5.jpg").rename(root / "train/cat/50.jpg")
    assert load(root, streaming=True).fingerprint != before


def test_large_datasets_are_streamed_with_a_message_unless_the_user_decides(photographs, monkeypatch, caplog):
    data = load(photographs)
    assert isinstance(data.train.images, np.ndarray) and not caplog.messages
    monkeypatch.setattr(image_folder, "CACHED_BYTES", 44 * 3 * data.side**2 - 1)
    with caplog.at_level(logging.WARNING):
        assert isinstance(load(photographs).train.images, StreamedImages)
    assert "44 images" in caplog.text and "streaming: false" in caplog.text
    assert isinstance(load(photographs, streaming=False).train.images, np.ndarray)


def test_training_and_validation_images_are_joined_without_reading_them(photographs):
    data = load(photographs, streaming=True)
    both = data.train.joined(data.validation)
    assert isinstance(both.images, StreamedImages) and len(both) == 34
    assert (images_of(both) == np.concatenate([images_of(data.train), images_of(data.validation)])).all()
    held_out = load(photographs / "train", streaming=True)
    assert held_out.train.joined(held_out.validation).images is held_out.train.images


def test_little_is_sent_to_worker_processes(photographs):
    images = load(photographs, streaming=True).train.images
    assert len(pickle.dumps(images)) < 1000 + 20 * len(images)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_named_in_one_line(photographs, tmp_path, monkeypatch, workers):
    monkeypatch.setenv("OFAV2_DATA_WORKERS", str(workers))
    root = shutil.copytree(photographs, tmp_path / "copy")
    (root / "train/dog/3.jpg").write_bytes((root / "train/dog/3.jpg").read_bytes()[:700])
    data = load(root, streaming=True)
    with pytest.raises(UserError, match=r"^image \S+train/dog/3\.jpg cannot be decoded \([^\n]*\); remove") as raised:
        epoch_of(data, batch_size=4)
    assert "\n" not in str(raised.value)


def end_at_two(number: int) -> torch.Tensor:
    if number == 2:
        os._exit(1)
    return torch.tensor(number)


def test_a_killed_worker_is_an_error_with_a_remedy():
    with pytest.raises(RunError, match="OFAV2_DATA_WORKERS to a smaller number"):
        list(in_order(end_at_two, range(8), 2))


def test_the_number_of_workers(monkeypatch):
    monkeypatch.delenv("OFAV2_DATA_WORKERS", raising=False)
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert worker_count() == min(16, processors)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processors))
    assert worker_count() == 1
    monkeypatch.setenv("OFAV2_DATA_WORKERS", "3")
    assert worker_count() == 3
    for wrong in ("-1", "two", "1.5", "²"):
        monkeypatch.setenv("OFAV2_DATA_WORKERS", wrong)
        with pytest.raises(UserError, match=r"\$OFAV2_DATA_WORKERS must be a number of processes"):
            worker_count()


def training(root: Path, out: Path, *more: str) -> list[str]:
    settings = overrides(*SMALL, "batch_size=4", "phases={full: {epochs: 2}}",
                         "augmentation=[crop_flip, randaugment]")  # fmt: skip
    return ["train", "--supernet", "SE_B", "--dataset", "{name: image-folder, streaming: true}", "--root", str(root),
            "--out", str(out), "--threads", "1", "--save-every", "0", *settings, *more]  # fmt: skip


def test_killed_within_an_epoch_and_resumed_with_other_workers_equals_uninterrupted(photographs, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert ofav2(*training(photographs, whole)).returncode == 0
    environment = {**os.environ, "OFAV2_DATA_WORKERS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "ofav2_plugins", *training(photographs, out)], env=environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(out.glob("steps/full-*/state.previous.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not list(out.glob("steps/full-*/trained.json")), "the kill came too late"
    monkeypatch.setenv("OFAV2_DATA_WORKERS", "2")
    resumed = ofav2(*training(photographs, out, "--resume"))
    assert resumed.returncode == 0, resumed.stderr
    [row], [wanted] = (json.loads((folder / "results.json").read_text())["rows"] for folder in (out, whole))
    for phase, wanted_phase in zip(row["phases"], wanted["phases"], strict=True):
        assert phase["subnets"] == wanted_phase["subnets"]
    for step in whole.glob("steps/*"):
        mine, reference = (
            load_checkpoint(folder / "best.safetensors")[0] for folder in (out / "steps" / step.name, step)
        )
        assert all(torch.equal(mine[name], value) for name, value in reference.items())


def fail_at_two(number):
    if number == 2:
        raise RuntimeError("shapes do not match")
    return torch.tensor(number)


def test_an_error_in_a_worker_keeps_its_message():
    with pytest.raises(RunError, match="shapes do not match"):
        list(in_order(fail_at_two, range(4), 2))
