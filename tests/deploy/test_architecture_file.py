"""Architecture files and searches: a changed digit is noticed, an intended edit is possible."""

from __future__ import annotations

import json

import pytest

from ofav2_plugins.deploy.architecture_file import read_architecture
from ofav2_plugins.errors import RunError
from ofav2_plugins.utils.files import write_record

ARCH = {"ks": [3, 5], "d": [2]}


@pytest.mark.parametrize(
    ("content", "entry"),
    [({"arch": ARCH, "resolution": 16}, None), ({"front": [{"arch": ARCH, "resolution": 16}]}, 0)],
)
def test_a_changed_digit_is_an_error_that_says_how_to_edit(tmp_path, content, entry):
    path = tmp_path / "arch.json"
    write_record(path, content)
    assert read_architecture(path, entry) == (ARCH, 16)
    path.write_text(path.read_text().replace("5", "7"))
    with pytest.raises(RunError, match=r"arch\.json was damaged or edited: .* remove the line 'digest'"):
        read_architecture(path, entry)
    edited = json.loads(path.read_text())
    del edited["digest"]
    path.write_text(json.dumps(edited))
    assert read_architecture(path, entry) == ({"ks": [3, 7], "d": [2]}, 16)
