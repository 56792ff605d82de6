"""Names and paths are text: brackets and colons in them are printed as they are."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from support.commands import SMALL, ofav2, overrides

from ofav2_plugins.utils.progress import Reporter, say

NAMES = ["[red]", "[/x]", "[b]a[/b]", "back\\[slash", ":smile:", "[link=x]y"]


@pytest.mark.parametrize("name", NAMES)
def test_a_line_and_the_progress_bar_show_a_name_as_it_is(name):
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    say(console, f"kept in /tmp/{name}")
    with Reporter(console, 10) as reporter:
        reporter.advance(5, name, f"note {name}")
        reporter.line(f"line {name}")
        reporter._live.refresh()
    shown = console.file.getvalue()
    assert f"/tmp/{name}" in shown and f"note {name}" in shown and f"line {name}" in shown


def test_a_run_in_a_folder_with_brackets(tmp_path):
    out = tmp_path / "[/bold] [red]run[/red] :smile:"
    train = ["train", "--supernet", "SE_B", "--out", out, *overrides(*SMALL, "phases={full: {epochs: 1}}")]
    done = ofav2(*train)
    assert done.returncode == 0, done.stderr
    assert f"results in {out}" in done.stdout and f"report: {out / 'report.html'}" in done.stdout
    (out / ".results.json.4194305.tmp").write_text("a part")
    assert f"run {out}: of `ofav2 train`" in ofav2("doctor", "--run", out).stdout
    (out / ".results.json.4194305.tmp").unlink()
    copy = tmp_path / "[/x]copy"
    shutil.copytree(out, copy)
    report = ofav2("report", out, copy, "--out", tmp_path / "[merged]")
    assert f"report: {Path(tmp_path) / '[merged]' / 'report.html'}" in report.stdout
    assert f"{out} already contains this run" in ofav2(*train).error
