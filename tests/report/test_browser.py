"""The page in a real browser: no script error, every chart, a table that sorts."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from support.report_samples import EDGES, EE, NASTY, Page, results, row, seeds, two

from ofav2_plugins.report.page import write_report


@pytest.fixture(scope="module")
def browser():
    """Runs a headless browser on a page and returns the document that its script left behind."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.fail("the browser test needs chromium (or google-chrome) on PATH; install it or leave out `-m slow`")

    def dump(path, fragment=""):
        command = [
            program,
            "--no-sandbox",
            "--headless=new",
            "--disable-gpu",
            "--window-size=1000,900",
            "--dump-dom",
        ]
        done = subprocess.run([*command, path.as_uri() + fragment], capture_output=True, timeout=120, check=True)
        return Page(re.sub(r"(?i)^<!doctype html>", "", done.stdout.decode()))

    return dump


def drawn(page):
    """Figure -> number of markers and lines in it, from the document that a browser left."""
    counts, figure = {}, None
    for tag, attributes in page.tags:
        figure = attributes["id"] if tag == "figure" else figure
        if figure and "data-arm" in attributes and tag in ("path", "polyline"):
            counts[figure] = counts.get(figure, 0) + 1
        figure = None if tag == "table" else figure
    return counts


@pytest.mark.slow
@pytest.mark.parametrize("value", [two(), seeds(), *EDGES.values()], ids=["two", "seeds", *EDGES])
def test_a_browser_runs_the_page_without_an_error(tmp_path, browser, value):
    page = browser(write_report(value, tmp_path))
    (_, root), *_ = [found for found in page.tags if found[0] == "html"]
    assert root.get("data-ready") == "true"
    assert "data-error" not in root


@pytest.mark.slow
def test_a_browser_draws_every_chart_and_keeps_names_text(tmp_path, browser):
    value = results(row("OFA"), *(row(name, names=EE) for name in NASTY))
    page = browser(write_report(value, tmp_path))
    counts = drawn(page)
    assert set(counts) == {"chart-by-phase", "chart-by-cost", "chart-by-exit", "chart-gains"}
    assert all(count >= len(NASTY) for count in counts.values())
    assert sum(tag == "script" for tag, _ in page.tags) == 3
    assert set(NASTY) <= {cells[0] for cells in page.tables["table-accuracy"]}


@pytest.mark.slow
@pytest.mark.parametrize(("fragment", "down"), [("#sort=top1", False), ("#sort=-top1", True)])
def test_a_browser_sorts_the_table_of_subnets(tmp_path, browser, fragment, down):
    value = seeds()
    page = browser(write_report(value, tmp_path), fragment)
    header, *rows = page.tables["table-subnets"]
    shown = [cells[header.index("Test (%)")] for cells in rows]
    accuracies = [s["top1"] for each in value["rows"] for entry in each["phases"] for s in entry["subnets"]]
    assert shown == [f"{top1:.2f}" for top1 in sorted(accuracies, reverse=down)[:100]]
    heads = {a["data-key"]: a["aria-sort"] for tag, a in page.tags if tag == "th" and "data-key" in a}
    assert heads["top1"] == ("descending" if down else "ascending")
    assert set(heads.values()) == {"none", heads["top1"]}


@pytest.mark.slow
def test_a_point_tells_its_architecture_to_the_keyboard(tmp_path, browser):
    value = two()
    path = write_report(value, tmp_path)
    press = 'dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}))'
    script = f'<script>document.querySelector("#chart-by-cost > svg").{press}</script></body>'
    path.write_text(path.read_text(encoding="utf-8").replace("</body>", script), encoding="utf-8")
    page = browser(path)
    first = value["rows"][0]["phases"][-1]["subnets"][0]
    assert first["top1"] == 71.0
    assert f"test {first['top1']:.2f} %, validation {first['val_top1']:.2f} %" in page.text
    assert "depths 4; kernels 3; expand 6" in page.text
    assert "resolution 32\n3 M MACs; 300 k parameters" in page.text
