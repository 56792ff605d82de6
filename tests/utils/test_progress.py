"""How long the rest takes: from the work of now alone, and not before that is known."""

from __future__ import annotations

import io

from rich.console import Console

from ofav2_plugins.utils import progress


def test_the_rest_takes_as_long_as_the_work_of_now_says(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    reporter = progress.Reporter(Console(file=io.StringIO()), total=1000)
    now[0] += 500  # loading
    reporter.skip(400)  # found, not done now
    assert reporter.eta() == "" and not reporter.worked
    reporter.advance(1, "full")
    now[0] += progress.SURE_SECONDS / 2
    assert reporter.eta() == ""
    now[0] += 20 - progress.SURE_SECONDS / 2
    reporter.advance(99, "full")
    assert reporter.worked
    assert reporter.eta() == "; 1 min 40 s left"  # 100 work in 20 s, 500 are left
    assert reporter.time_for(50) == "10 s"
    reporter.advance(600, "full")  # more than there was said to be
    assert reporter.eta() == "; 0 s left"
