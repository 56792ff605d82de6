"""Commands of `ofav2`, called in this process: torch is imported already, so a call takes no seconds to start."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass
from unittest.mock import patch

from ofav2_plugins.cli import main


@dataclass
class Finished:
    returncode: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The error, which must be one line that was written for the user."""
        assert self.returncode in (1, 2), self.stdout
        lines = self.stderr.splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: "), self.stderr
        assert "Traceback" not in self.stderr + self.stdout
        assert "unexpected error" not in lines[0], lines[0]
        return lines[0]


def ofav2(*arguments: object) -> Finished:
    """`ofav2 ARGUMENTS`."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", ["ofav2", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main.main()
            code: object = 0
        except SystemExit as stop:
            code = stop.code
    return Finished(int(code or 0), out.getvalue(), err.getvalue())


SMALL = ["width_mult=0.25", "resolutions=[16]", "batch_size=512", "evaluation.bn_images=64",
         "evaluation.selection_draws=1", "evaluation.max_subnets=2", "evaluation.final_trunks=2",
         "evaluation.batch_size=500"]  # fmt: skip
"""Overrides of a recipe with which an epoch takes about a second."""


def overrides(*settings: str) -> list[str]:
    """`--set SETTING` for each."""
    return [part for setting in settings for part in ("--set", setting)]
