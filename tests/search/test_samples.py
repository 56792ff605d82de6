"""The file of measured samples: its order does not depend on when they were measured, and it knows its training."""

from __future__ import annotations

import random

import pytest

from ofav2_plugins.errors import RunError
from ofav2_plugins.search.samples import SampleFile, Trunk

TRUNKS = [Trunk({"d": [d], "height": 2}, 16, (1, 2)) for d in (3, 2, 4, 1)]


def measured(trunk: Trunk) -> list[dict]:
    return [{"height": height, "val_top1": 10.0 * trunk.arch["d"][0] + height} for height in trunk.heights]


def test_samples_come_in_the_order_of_the_plan_whoever_measured_first(tmp_path):
    found = []
    for seed in range(3):
        file = SampleFile(tmp_path / f"{seed}.jsonl", {"step": "a"})
        for trunk in random.Random(seed).sample(TRUNKS, 4):
            file.add(trunk, measured(trunk))
        found.append(SampleFile(file.path, {"step": "a"}).samples(TRUNKS[:3]))
        assert TRUNKS[0] in file
    assert found[0] == found[1] == found[2]
    assert [(s["trunk"], s["arch"]["d"], s["arch"]["height"]) for s in found[0]] == [
        (n, [d], height) for n, d in enumerate((3, 2, 4, 1)) for height in (1, 2)
    ]


def test_a_damaged_line_is_measured_again_and_another_identity_is_rejected(tmp_path):
    file = SampleFile(tmp_path / "s.jsonl", {"step": "a"})
    for trunk in TRUNKS:
        file.add(trunk, measured(trunk))
    lines = file.path.read_text().splitlines(keepends=True)
    file.path.write_text("".join([*lines[:2], lines[2].replace("val_top1", "val_top2"), *lines[3:-1], lines[-1][:30]]))
    again = SampleFile(file.path, {"step": "a"})
    assert [trunk in again for trunk in TRUNKS] == [True, False, True, False]
    with pytest.raises(RunError, match="step was 'a', but got 'b'; choose another folder"):
        SampleFile(file.path, {"step": "b"})


def test_damaged_lines_are_reported(tmp_path):
    file = SampleFile(tmp_path / "s.jsonl", {"step": "a"})
    file.add(TRUNKS[0], measured(TRUNKS[0]))
    file.path.write_text(file.path.read_text().replace("31.0", "91.0"))
    said: list[str] = []
    SampleFile(file.path, {"step": "a"}, said.append)
    assert said == [f"{file.path}: 1 damaged line was removed"]


def test_samples_whose_run_is_unknown_are_rejected(tmp_path):
    file = SampleFile(tmp_path / "s.jsonl", {"step": "a"})
    file.add(TRUNKS[0], measured(TRUNKS[0]))
    file.path.write_text(file.path.read_text().replace('"step": "a"', '"step": "b"'))
    with pytest.raises(RunError, match=r"its first line.*remove the file"):
        SampleFile(file.path, {"step": "a"})
