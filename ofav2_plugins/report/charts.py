"""The report's charts as PNG images, drawn with matplotlib."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from .chart_data import BASELINE_COLOR, TOP1, gain_values

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "d")
DASHES: tuple[Any, ...] = ("-", (0, (6, 3)), (0, (2, 2)), (0, (8, 3, 2, 3)), (0, (12, 4)))
MAX_POINTS = 150
"""Approximate maximum number of subnets drawn per arm, in addition to those on its front."""


def draw_charts(data: dict[str, Any]) -> dict[str, bytes]:
    """Draw all charts for which there is data: file name -> PNG. The same data gives the same bytes."""
    drawn: dict[str, tuple[Callable[..., None], tuple[Any, ...]]] = {}
    for cost in data["costs"]:
        drawn[f"accuracy-by-{cost['name'].lower()}.png"] = (_by_cost, (cost,))
    if any(any(line) for line in data["accuracy"]["best_top1"]["values"]):
        drawn["accuracy-by-phase.png"] = (_by_phase, ())
    if data["exits"]["heights"]:
        drawn["accuracy-by-exit.png"] = (_by_exit, ())
    if data["gains"]:
        drawn["gains.png"] = (_gains, ())
    return {name: _png(draw, data, *arguments) for name, (draw, arguments) in drawn.items()}


def _png(draw: Callable[..., None], data: dict[str, Any], *arguments: Any) -> bytes:
    lines = sum(_label(arm).count("\n") + 1 for arm in data["arms"])
    figure = Figure(figsize=(8.5, max(5.0, 1 + 0.19 * lines)), layout="constrained")  # room for all names
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    draw(axes, data, *arguments)
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # characters missing from the font are drawn as boxes
        figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()


def _style(arm: dict[str, Any], **others: Any) -> dict[str, Any]:
    style = {
        "color": "#000000" if arm["color"] == BASELINE_COLOR else arm["color"],
        "marker": MARKERS[arm["marker"]],
        "linestyle": DASHES[arm["dash"]],
    }
    return {**style, "markersize": 5, "linewidth": 1.5, **others}


def _legend(axes: Axes, arms: list[dict[str, Any]]) -> None:
    handles = [Line2D([], [], **_style(arm)) for arm in arms]
    legend = axes.legend(
        handles, ["arm"] * len(arms), loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8,
        handlelength=3.5,
    )  # fmt: skip
    # set afterwards, because matplotlib omits labels that start with "_" and treats "$" as the start of a formula
    for text, arm in zip(legend.get_texts(), arms, strict=True):
        text.set_parse_math(False)
        text.set_text(_label(arm))


def _label(arm: dict[str, Any]) -> str:
    return _wrapped(f"{arm['name']} ({arm['note']})" if arm["note"] else arm["name"])


def _wrapped(name: str, width: int = 28) -> str:
    return textwrap.fill(name, width) or " "


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=10, loc="left", parse_math=False)


def _limit(axis: Callable[[float, float], Any], data: dict[str, Any], values: dict[int, list[float]],
           outlying: Sequence[int]) -> str:  # fmt: skip
    """Fit an axis to all arms except the outlying ones; returns a line that lists those with their values."""
    shown = [value for arm, own in values.items() if arm not in outlying for value in own]
    if not outlying or not shown:
        return ""
    air = 0.06 * max(max(shown) - min(shown), 0.5)
    axis(min(shown) - air, max(shown) + air)
    cut = [f"{data['arms'][arm]['name']} ({min(values[arm]):.1f} to {max(values[arm]):.1f})" for arm in outlying]
    return f"\naxis cut; partly outside: {textwrap.shorten(', '.join(cut), 90)}"


def _lines(axes: Axes, data: dict[str, Any], xs: list[float], lines: dict[str, Any]) -> str:
    """Draw one line per arm across missing values, with a bar from the lowest to the highest seed."""
    shown, values = [], {}
    for i, (arm, line) in enumerate(zip(data["arms"], lines["values"], strict=True)):
        points = [(x, value) for x, value in zip(xs, line, strict=True) if value]
        if not points:
            continue
        shown.append(arm)
        values[i] = [bound for _, value in points for bound in value[1:3]]
        axes.plot([x for x, _ in points], [value[0] for _, value in points], **_style(arm))
        spans = [(x, value) for x, value in points if value[1] < value[2]]
        if spans:
            axes.vlines([x for x, _ in spans], [v[1] for _, v in spans], [v[2] for _, v in spans],
                        color=_style(arm)["color"], alpha=0.5, linewidth=1)  # fmt: skip
    _legend(axes, shown)
    axes.set_ylabel("Top-1 accuracy on the test set (%)")
    return _limit(axes.set_ylim, data, values, lines["outlying"])


def _by_phase(axes: Axes, data: dict[str, Any]) -> None:
    xs: list[float] = [float(i) for i in range(len(data["phases"]))]
    cut = _lines(axes, data, xs, data["accuracy"]["best_top1"])
    labels = [_wrapped(phase, 16) for phase in data["phases"]]
    axes.set_xticks(xs, labels, rotation=45 if len(xs) > 6 else 0, ha="right" if len(xs) > 6 else "center")
    for label in axes.get_xticklabels():
        label.set_parse_math(False)
    axes.set_xlabel("Training phase")
    _title(axes, "Accuracy after each phase, subnet best on validation" + _over_seeds(data) + cut)


def _over_seeds(data: dict[str, Any]) -> str:
    return "\nmean over the seeds of each arm, bars from lowest to highest" if len(data["seeds"]) > 1 else ""


def thinned(rows: Sequence[Any], most: int = MAX_POINTS) -> Sequence[Any]:
    """Evenly spaced rows, at most about `most` of them."""
    return rows[:: max(1, round(len(rows) / most))]


def _by_cost(axes: Axes, data: dict[str, Any], cost: dict[str, Any]) -> None:
    column, scale = cost["column"], cost["scale"]
    rows = [row for row in (data["subnets"][i] for i in data["last"]) if None not in (row[column], row[TOP1])]
    shown, values = [], {}
    for i, arm in enumerate(data["arms"]):
        points = [(row[column] / scale, row[TOP1]) for row in rows if row[:2] == [i, 0]]
        if not points:
            continue
        shown.append(arm)
        values[i] = [top1 for _, top1 in points]
        axes.plot(*zip(*thinned(points), strict=True), **_style(arm, linestyle="none", alpha=0.3, markersize=4))
        for front in data["fronts"][cost["key"]]:
            if (front["arm"], front["seed"]) == (i, 0):
                on_front = [data["subnets"][j] for j in front["rows"]]
                axes.plot([r[column] / scale for r in on_front], [r[TOP1] for r in on_front], **_style(arm))
    for budget in cost["budgets"]:
        axes.axvline(budget / scale, color="#999999", linewidth=0.8, linestyle=":")
    if cost["log"]:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    _legend(axes, shown)
    axes.set_xlabel(cost["label"])
    axes.set_ylabel("Top-1 accuracy on the test set (%)")
    seed = f", seed {data['seeds'][0]}" if data["seeds"] else ""
    cut = _limit(axes.set_ylim, data, values, [arm for arm in data["outlying_subnets"] if arm in values])
    budgets = "; dotted: MACs budgets" if cost["budgets"] else ""
    _title(axes, f"Subnets of the last phase{seed}; line: Pareto front chosen on validation{budgets}" + cut)


def _by_exit(axes: Axes, data: dict[str, Any]) -> None:
    cut = _lines(axes, data, data["exits"]["heights"], data["exits"])
    axes.set_xticks(data["exits"]["heights"])
    axes.set_xlabel("Exit (height: stages before it)")
    measured = data["exits"]["measured"]
    of = "Each exit of the maximal network" if measured else "Best subnet on validation that ends at each exit"
    _title(axes, of + _over_seeds(data) + cut)


def _gains(axes: Axes, data: dict[str, Any]) -> None:
    """Mean and interval of each arm; the individual runs if there is no interval."""
    group = data["gains"][0]
    for y, gain in enumerate(group["rows"]):
        style = _style(data["arms"][gain["arm"]], linestyle="none", markersize=8)
        runs = [value for _, value in gain["seeds"]]
        if gain["interval"]:
            axes.hlines(y, *gain["interval"], color=style["color"], linewidth=2)
            axes.plot(runs, [y] * len(runs), linestyle="none", marker="|", color=style["color"], markersize=12)
            axes.plot(gain["mean"], y, **style)
        else:
            axes.plot(runs, [y] * len(runs), **style, fillstyle="none")
    axes.axvline(0, color="#555555", linewidth=1)
    axes.set_ylim(len(group["rows"]) - 0.5, -0.5)
    names = [_wrapped(data["arms"][gain["arm"]]["name"]) for gain in group["rows"]]
    axes.set_yticks(range(len(names)), names, fontsize=8)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set_xlabel("Gain over the baseline (points of top-1 accuracy)")
    values = {gain["arm"]: [0.0, *gain_values(gain)] for gain in group["rows"]}
    cut = _limit(axes.set_xlim, data, values, [group["rows"][i]["arm"] for i in group["outlying"]])
    _title(axes, f"Gain over the baseline: {group['name']}\n{_gains_legend(group['rows'])}{cut}")


def _gains_legend(rows: Iterable[dict[str, Any]]) -> str:
    found = {bool(row["interval"]) for row in rows}
    words = {
        True: "filled: mean and 95 % t-interval, strokes: runs",
        False: "hollow: single runs, too few for an interval",
    }
    return "; ".join(words[kind] for kind in (True, False) if kind in found)
