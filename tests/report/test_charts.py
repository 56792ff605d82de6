"""The pictures: the same bytes for the same results, names as they are, nothing hidden in silence."""

from __future__ import annotations

from matplotlib.figure import Figure
from support.report_samples import results, row, seeds, two

from ofav2_plugins.report import charts
from ofav2_plugins.report.chart_data import chart_data
from ofav2_plugins.report.charts import draw_charts, thinned
from ofav2_plugins.report.page import write_report
from ofav2_plugins.study.summary import Summary


def test_the_same_results_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_report(seeds(), tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert {str(file) for file in files} >= {
        "report.html",
        "charts/accuracy-by-phase.png",
        "charts/accuracy-by-macs.png",
        "charts/accuracy-by-exit.png",
        "charts/accuracy-by-parameters.png",
        "charts/gains.png",
        "tables/accuracy.csv",
        "tables/gains.tex",
    }
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_the_first_picture_is_accuracy_against_cost():
    assert next(iter(draw_charts(chart_data(Summary(two()))))) == "accuracy-by-macs.png"


def texts_of(draw, value):
    axes = Figure().add_subplot()
    draw(axes, chart_data(Summary(value)))
    axes.figure.canvas.draw()
    legend = axes.get_legend()
    shown = [*(legend.get_texts() if legend else []), *axes.get_xticklabels(), *axes.get_yticklabels()]
    return [text.get_text() for text in shown], axes


def test_names_are_drawn_as_they_are():
    names = ["$x_1$", r"$\frac{", "_hidden", "[x]"]
    value = results(row("OFA"), *(row(name, names=["full", "$y$", "kernel"]) for name in names))
    drawn, _ = texts_of(charts._by_phase, value)
    assert {*names, "$y$"} <= set(drawn)
    drawn, _ = texts_of(charts._gains, value)
    assert set(names) <= set(drawn)


def test_an_axis_that_leaves_values_out_says_whose():
    rows = [row("OFA"), *(row(name, base=70.0 + i) for i, name in enumerate("abc")), row("$bad$", base=20.0)]
    _, axes = texts_of(charts._by_phase, results(*rows))
    assert axes.get_ylim()[0] > 60
    assert "axis cut; partly outside: $bad$ (20.0 to 25.0)" in axes.get_title(loc="left")
    _, axes = texts_of(charts._by_phase, results(*rows[:4]))
    assert "axis cut" not in axes.get_title(loc="left")


def test_many_points_are_thinned_evenly():
    assert thinned([1, 2, 3], most=300) == [1, 2, 3]
    assert list(thinned(range(3000), most=300)) == list(range(0, 3000, 10))
