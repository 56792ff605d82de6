"""The tables that a study prints: every number, names as they are, within the width."""

from __future__ import annotations

import re

import pytest
from support.report_samples import EE, SE, printed, results, row, seeds, shifted, two


def test_the_console_tables_have_every_number():
    text = printed(two())
    assert re.search(r"^OFA +1 +70.00 +71.00 +– +– +– +– +72.00 +73.00 +74.00 +75.00 *$", text, re.M)
    assert re.search(r"^OFA +1 +width-2 +75.00 +baseline +75.00 +41.62 +– *$", text, re.M)
    assert re.search(r"^OFAv2 +1 +width-2 +80.50 +1 seed: \+5.50 +80.50 +44.80 +– *$", text, re.M)
    assert "Undecided: no arm shares 3 seeds with the baseline OFA" in " ".join(text.split())


def test_the_console_ends_with_the_headline():
    text = printed(shifted(seeds(3), "OFAv2", 0.0, 0.1, -0.1))
    assert "OFAv2 ends above the baseline OFA, by +5.50 points" in " ".join(text.splitlines()[-2:])


@pytest.mark.parametrize("width", [60, 100, 200])
def test_the_console_tables_fit_and_cut_nothing_off(width):
    names = [
        "OFA",
        "[red]no markup[/red]",
        "$x_1$",
        "branches=conv1x1+transform,skip=dense,exits=every_stage",
        "日本語" * 9,
    ]
    phases = [*SE[:2], "level-1", "level-2", *EE[2:], "an-extremely-long-phase-of-a-plugin", "[x]"]
    text = printed(results(*(row(name, names=phases) for name in names)), width)
    assert max(len(line) for line in text.splitlines()) <= min(width, 100)
    assert "…" not in text
    squeezed = re.sub(r"\s", "", text)
    for name in ("[red]nomarkup[/red]", "$x_1$", "[x]"):
        assert squeezed.count(name) >= 2
    for i in range(len(phases)):
        assert f"{70 + i:.2f}" in text
