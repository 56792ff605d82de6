"""The command line for tests of deployment."""

from __future__ import annotations

import subprocess
import sys


def command(*arguments: object) -> subprocess.CompletedProcess:
    """The command in a process of its own."""
    line = [sys.executable, "-m", "ofav2_plugins", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True)


def assert_refused(*arguments: object, words: tuple[str, ...]) -> None:
    """The command ends with one line that has these words."""
    done = command(*arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ") and "unexpected" not in line, line
    for word in words:
        assert word in line, line
