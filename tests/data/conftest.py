"""A cache folder of each test's own, and a small folder of images."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.pictures import paint


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("OFAV2_CACHE", str(folder))
    return folder


@pytest.fixture
def flat(tmp_path) -> Path:
    """Two classes with five images of 40 pixels each."""
    root = tmp_path / "flat"
    for name, red in (("cat", 0), ("dog", 200)):
        for i in range(5):
            paint(root / name / f"{i}.png", (red, 10 * i, 0), (40, 40))
    return root
