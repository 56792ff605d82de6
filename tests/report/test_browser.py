"""The page in a real browser: no script error, every chart, zoom, arms that can be hidden, a table that sorts."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from support.report_samples import EDGES, EE, NASTY, SE, Page, results, row, seeds, two, words

from ofav2_plugins.report.page import write_report


@pytest.fixture(scope="module")
def browser():
    """Runs a headless browser on a page and returns the document after its scripts."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.fail("the browser test needs chromium (or google-chrome) on PATH; install it or omit `-m slow`")

    def dump(path, fragment=""):
        command = [
            program,
            "--no-sandbox",
            "--headless=new",
            "--disable-gpu",
            "--window-size=1000,900",
            "--allow-file-access-from-files",
            "--virtual-time-budget=5000",
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


def with_script(path, script):
    """The page with a script that acts as a reader when everything is drawn."""
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_point_shows_its_architecture_to_the_keyboard(tmp_path, browser):
    value = two()
    press = 'dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}))'
    script = f'document.querySelector("#chart-by-cost > svg").{press}'
    page = browser(with_script(write_report(value, tmp_path), script))
    first = value["rows"][0]["phases"][-1]["subnets"][0]
    assert first["top1"] == 71.0
    assert f"test {first['top1']:.2f} %, validation {first['val_top1']:.2f} %" in page.text
    assert "depths 4; kernels 3; expand 6" in page.text
    assert "resolution 32\n3 M MACs; 300 k parameters" in page.text


def marks(page, figure):
    """Arm -> number of its marks inside a figure's picture."""
    counts, inside = {}, False
    for tag, attributes in page.tags:
        if tag == "figure":
            inside = attributes["id"] == figure
        if inside and tag == "path" and "transform" in attributes and "translate(22 7)" != attributes["transform"]:
            counts[attributes["data-arm"]] = counts.get(attributes["data-arm"], 0) + 1
        inside = inside and tag != "table"
    return counts


@pytest.mark.slow
def test_arms_can_be_switched_off_in_all_charts(tmp_path, browser):
    value = results(row("OFA"), *(row(name, names=EE) for name in "abc"))
    path = write_report(value, tmp_path)
    before = browser(path)
    click = "document.querySelector('#chart-by-phase .legend button[data-arm=\"2\"]').click()"
    after = browser(with_script(path, click))
    for figure in ("chart-by-cost", "chart-by-phase", "chart-by-exit", "chart-gains"):
        assert marks(before, figure)["2"] > 0
        assert {arm: n for arm, n in marks(before, figure).items() if arm != "2"} == marks(after, figure)
    pressed = {a["aria-pressed"] for t, a in after.tags if t == "button" and a.get("data-arm") == "2"}
    assert pressed == {"false"}


def y_labels(page, figure):
    """The numbers along a figure's vertical axis."""
    numbers, inside = [], False
    for (tag, attributes), text in zip(page.tags, page.texts, strict=True):
        if tag == "figure":
            inside = attributes["id"] == figure
        if inside and tag == "text" and attributes.get("text-anchor") == "end" and "transform" not in attributes:
            numbers.append(float(text))
    return numbers


@pytest.mark.slow
def test_a_bad_arm_does_not_flatten_the_others_and_can_be_shown_whole(tmp_path, browser):
    value = results(row("OFA"), *(row(name, base=70.0 + i) for i, name in enumerate("abc")), row("bad", base=20.0))
    path = write_report(value, tmp_path)
    cut = browser(path)
    assert min(y_labels(cut, "chart-by-phase")) > 65
    assert "values outside it: bad" in words(cut.text)
    assert marks(cut, "chart-by-phase")["4"] == len(SE)  # arrows at the edge
    shown = browser(with_script(path, "document.querySelector('#chart-by-phase .cut button').click()"))
    assert min(y_labels(shown, "chart-by-phase")) < 25
    assert "Cut the axis" in shown.text


DRAG = """
const surface = document.querySelector("#chart-by-phase > svg"), box = surface.getBoundingClientRect();
surface.setPointerCapture = () => {};
for (const [type, x, y] of [["pointerdown", 0.3, 0.2], ["pointermove", 0.6, 0.4], ["pointerup", 0.6, 0.4]])
  surface.dispatchEvent(new PointerEvent(type, {
    pointerType: "mouse", button: 0, clientX: box.left + box.width * x, clientY: box.top + box.height * y,
  }));
"""


@pytest.mark.slow
def test_axes_zoom_by_dragging_by_keys_and_back(tmp_path, browser):
    path = write_report(two(), tmp_path)

    def spans(page):
        labels = y_labels(page, "chart-by-phase")
        return max(labels) - min(labels), sum(marks(page, "chart-by-phase").values())

    whole = spans(browser(path))
    dragged = spans(browser(with_script(path, DRAG)))
    assert 0 < dragged[0] < whole[0] / 2
    assert dragged[1] < whole[1]
    reset = "document.querySelectorAll('#chart-by-phase .zoom button')[2].click();"
    assert spans(browser(with_script(path, reset))) == whole
    press = 'surface.dispatchEvent(new KeyboardEvent("keydown", {key: "+"}));'
    closer = spans(browser(with_script(path, press)))
    assert closer[0] < whole[0]


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_but_tables_is_wider_than_the_window(tmp_path, browser, width):
    """A page in a frame of the given width: a browser window cannot be as narrow as a phone."""
    value = results(row("OFA"), *(row(f"a rather long name of arm {i}", names=EE) for i in range(9)))
    write_report(value, tmp_path)
    script = """frame.onload = () => setTimeout(() => {
      const page = frame.contentDocument;
      document.body.dataset.wide = page.documentElement.scrollWidth;
      document.body.dataset.more = page.querySelectorAll(".wide[data-more]").length;
    }, 500)"""
    outer = f'<iframe id="frame" src="report.html" style="width:{width}px;height:900px;border:0"></iframe>'
    (tmp_path / "outer.html").write_text(f"<html><body>{outer}<script>{script}</script></body></html>")
    page = browser(tmp_path / "outer.html")
    (body,) = [attributes for tag, attributes in page.tags if tag == "body"]
    assert int(body["data-wide"]) <= width
    assert int(body["data-more"]) > 0
