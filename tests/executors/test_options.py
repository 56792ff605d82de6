"""How the command line's options choose an executor; wrong ones are errors of one line before anything is written."""

from __future__ import annotations

import pytest
from support.commands import ofav2

from ofav2_plugins.cli.options import executor_option


@pytest.mark.parametrize(
    ("executor", "overrides", "settings", "chosen"),
    [
        (None, [], {"workers": None}, {"name": "serial"}),
        (None, [], {"workers": 1}, {"name": "serial"}),
        (None, [], {"workers": 3}, {"name": "processes", "workers": 3}),
        (None, [], {"workers": None, "memory_gib": 8.0}, {"name": "processes", "memory_gib": 8.0}),
        ("processes", ["executor.workers=4"], {}, {"name": "processes", "workers": 4}),
        ("{name: processes, workers: 2}", [], {"memory_gib": 8}, {"name": "processes", "workers": 2, "memory_gib": 8}),
    ],
)
def test_options_choose_the_executor(executor, overrides, settings, chosen):
    assert executor_option(executor, overrides, **settings) == chosen


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--executor", "cloud"], ["unknown plugin 'cloud' in ofav2.executors", "processes", "serial"]),
        (["--executor", "serial", "--workers", "2"], ["'serial'", "no setting 'workers'"]),
        (["--executor", "processes", "--set", "executor.nodes=2"], ["'processes'", "no setting 'nodes'", "memory_gib"]),
        (["--executor", "processes", "--set", "executor.workers=0"], ["workers must be at least 1, but got 0"]),
        (["--workers", "2", "--memory", "0.1"], ["--memory must be at least"]),
        (["--workers", "2", "--memory", "nan"], ["memory_gib", "finite number, but got nan"]),
        (["--workers", "0"], ["workers"]),
    ],
)
def test_a_wrong_executor_is_one_line_and_nothing_is_written(study, tmp_path, options, words):
    done = ofav2("ablate", study, "--out", tmp_path / "out", *options)
    for word in words:
        assert word in done.error
    assert not (tmp_path / "out").exists()
