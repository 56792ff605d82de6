"""Shared by the tests of studies: a small study in files, and its data."""

from __future__ import annotations

from pathlib import Path

import pytest
from study_samples import RECIPE, STUDY

from ofav2_plugins import registry


@pytest.fixture
def study(tmp_path) -> Path:
    (tmp_path / "mine.yaml").write_text(RECIPE)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path / "study.yaml"


@pytest.fixture(scope="module")
def data():
    return registry.load(registry.DATASETS, "fashion-mini").load()
