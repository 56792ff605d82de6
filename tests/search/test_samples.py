"""The file of measured samples: any order of measurement gives the same samples; damaged lines are reported."""

from __future__ import annotations

import pytest

from ofav2_plugins.errors import RunError
from ofav2_plugins.search.samples import SampleFile, Trunk

IDENTITY = {"step": "full-0"}
TRUNKS = [Trunk({"d": [d]}, 16, ()) for d in (4, 2, 3)]


def written(path, order):
    file = SampleFile(path, IDENTITY)
    for trunk in order:
        file.add(trunk, [{"val_top1": float(trunk.arch["d"][0])}])
    return file


def test_the_order_in_which_processes_measure_does_not_matter(tmp_path):
    files = [written(tmp_path / f"{i}.jsonl", order) for i, order in enumerate((TRUNKS, TRUNKS[::-1]))]
    planned = [[sample["val_top1"] for sample in file.samples(TRUNKS)] for file in files]
    assert planned == [[4.0, 2.0, 3.0]] * 2
    assert files[0].samples(TRUNKS[2:]) == files[1].samples(TRUNKS[2:])


def test_damaged_lines_are_reported_and_their_trunks_measured_again(tmp_path):
    path = tmp_path / "samples.jsonl"
    written(path, TRUNKS)
    path.write_text(path.read_text().replace("2.0", "9.0"))
    said: list[str] = []
    file = SampleFile(path, IDENTITY, said.append)
    assert said == [f"{path}: 1 damaged line was removed"]
    assert [trunk in file for trunk in TRUNKS] == [True, False, True]


def test_samples_whose_run_is_unknown_are_refused(tmp_path):
    path = tmp_path / "samples.jsonl"
    written(path, TRUNKS)
    path.write_text(path.read_text().replace("full-0", "full-1"))
    with pytest.raises(RunError, match=r"its first line.*remove the file"):
        SampleFile(path, IDENTITY)
