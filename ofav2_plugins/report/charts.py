"""The report's charts: the data that page and pictures share, and the pictures (PNG, drawn by matplotlib)."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from ..study.stats import Spread, number, pareto_front
from ..study.summary import Summary

# Okabe-Ito without its yellow, which nobody sees on white; black is the baseline's. 6 colours, 7 markers and
# 5 dashes have no common divisor: no two of 210 arms look the same, and neighbours differ in all three.
COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", (0, (6, 3)), (0, (2, 2)), (0, (8, 3, 2, 3)), (0, (12, 4)))

MEASURES = {
    "best_top1": "best on validation",
    "test_max_top1": "best on test (as the paper charts it)",
    "mean_top1": "mean of all",
    "min_top1": "worst of all",
}
COST_LABELS: dict[str, tuple[str, str, list[tuple[float, str]]]] = {
    "macs": ("MACs", "multiply-accumulates per image", [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")]),
    "params": ("parameters", "parameters", [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")]),
    "latency_ms": ("latency", "latency per batch", [(1, "ms")]),
}
DIMENSIONS = ("d", "ks", "e", "level", "height")


def chart_data(summary: Summary) -> dict[str, Any]:
    """Everything that the charts show, as finite JSON: what is missing or not finite is null."""
    subnets = _subnets(summary)
    exits = summary.exits
    heights = sorted({height for _, held in exits.values() for height in held})
    return {
        "arms": _arms(summary),
        "phases": summary.phases,
        "seeds": [str(seed) for seed in summary.seeds],
        "measures": MEASURES,
        "accuracy": {
            key: [[_triple(summary.over_seeds(arm, p, key)) for p in summary.phases] for arm in summary.arms]
            for key in MEASURES
        },
        "exits": {
            "heights": heights,
            "measured": summary.exits_are_measured,
            "phases": [exits[arm][0] if arm in exits else None for arm in summary.arms],
            "values": [
                [_triple(exits[arm][1].get(h)) if arm in exits else None for h in heights] for arm in summary.arms
            ],
        },
        "gains": [
            {
                "arm": summary.arms.index(gain.arm),
                "phase": gain.where,
                "mean": gain.mean,
                "interval": gain.interval,
                "seeds": [[str(seed), value] for seed, value in gain.by_seed.items()],
            }
            for gain in summary.gains
        ],
        "costs": [_cost(summary, cost) for cost in summary.costs],
        **subnets,
    }


def _arms(summary: Summary) -> list[dict[str, Any]]:
    arms, others = [], 0
    for end in summary.final_results:
        base = end.arm == summary.baseline
        arms.append(
            {
                "name": end.arm,
                "color": 0 if base else others % 6 + 1,
                "marker": 0 if base else (others + 1) % 7,
                "dash": 0 if base else (others + 1) % 5,
                "last": summary.phases.index(end.phase) if end.phase else None,
                "finished": end.finished,
            }
        )
        others += not base
    return arms


def _triple(held: Spread | None) -> list[float] | None:
    return [held.mean, held.low, held.high, held.n] if held else None


def _cost(summary: Summary, cost: str) -> dict[str, Any]:
    """How an axis of a cost is labelled: in a unit that fits; logarithmic where values differ 30-fold."""
    values = [number(s.get(cost)) for arm in summary.arms for s in summary.subnets(arm)]
    held = [value for value in values if value is not None]
    name, label, units = COST_LABELS[cost]
    scale, unit = next((u for u in units if max(held) >= u[0]), units[-1])
    log = min(held) > 0 and max(held) / min(held) > 30
    label = f"{label[0].upper()}{label[1:]}" + (f" ({unit})" if unit else "") + (", logarithmic" if log else "")
    return {"key": cost, "name": name, "label": label, "unit": unit, "scale": scale, "log": log}


def describe(arch: dict[str, Any]) -> list[str]:
    """An architecture in few words: depths, kernels, expand ratios, level, height, other dimensions."""
    stages = len(arch["d"]) if isinstance(arch.get("d"), list) and arch["d"] else 1
    others = [f"{name} {_compact(value, stages)}" for name, value in arch.items() if name not in DIMENSIONS]
    return [*(_compact(arch.get(name), stages) for name in DIMENSIONS), "; ".join(others)]


def _compact(value: Any, stages: int) -> str:
    """One word where all entries are equal, else the entries, stage by stage."""
    if value is None:
        return ""
    if not isinstance(value, list):
        return str(value)
    words = ["+".join(map(str, v)) if isinstance(v, list) else str(v) for v in value]
    if len(set(words)) == 1:
        return words[0]
    size = len(words) // stages if len(words) % stages == 0 else len(words)
    return " | ".join(" ".join(words[i : i + size]) for i in range(0, len(words), max(size, 1)))


def _subnets(summary: Summary) -> dict[str, Any]:
    """All measured subnets as short rows, architectures as indices; and the fronts of the last phases."""
    archs: dict[tuple[str, ...], int] = {}
    rows: list[list[Any]] = []
    groups: dict[tuple[int, int], list[int]] = {}
    lasts = {arm: summary.last_phase(arm) for arm in summary.arms}
    for row in summary.rows:
        arm, seed = summary.arms.index(row["arm"]), summary.seeds.index(row.get("seed"))
        for entry in sorted(row.get("phases") or [], key=lambda entry: summary.phases.index(entry["name"])):
            for subnet in entry.get("subnets") or []:
                arch = archs.setdefault(tuple(describe(subnet.get("arch") or {})), len(archs))
                if entry["name"] == lasts[row["arm"]]:
                    groups.setdefault((arm, seed), []).append(len(rows))
                values = [number(subnet.get(key)) for key in ("val_top1", "top1", "macs", "params", "latency_ms")]
                shape = [subnet.get("resolution"), int(bool(subnet.get("ensemble")))]
                rows.append([arm, seed, summary.phases.index(entry["name"]), arch, *shape, *values])
    fronts = {}
    for column, cost in enumerate(("macs", "params", "latency_ms"), start=8):
        found = [
            {
                "arm": arm,
                "seed": seed,
                "rows": [held[i] for i in pareto_front([(rows[i][column], rows[i][7]) for i in held])],
            }
            for (arm, seed), held in groups.items()
        ]
        fronts[cost] = [front for front in found if front["rows"]]
    last = [i for held in groups.values() for i in held]
    return {"archs": [list(arch) for arch in archs], "subnets": rows, "last": last, "fronts": fronts}


def draw_charts(data: dict[str, Any]) -> dict[str, bytes]:
    """The charts that there is data for: file name -> PNG. The same data gives the same bytes."""
    drawn: dict[str, tuple[Callable[..., None], tuple[Any, ...]]] = {}
    if any(any(line) for line in data["accuracy"]["best_top1"]):
        drawn["accuracy-by-phase.png"] = (_by_phase, ())
    for cost in data["costs"]:
        drawn[f"accuracy-by-{cost['name'].lower()}.png"] = (_by_cost, (cost,))
    if data["exits"]["heights"]:
        drawn["accuracy-by-exit.png"] = (_by_exit, ())
    if data["gains"]:
        drawn["gains.png"] = (_gains, ())
    return {name: _png(draw, data, *arguments) for name, (draw, arguments) in drawn.items()}


def _png(draw: Callable[..., None], data: dict[str, Any], *arguments: Any) -> bytes:
    lines = sum(_wrapped(arm["name"]).count("\n") + 1 for arm in data["arms"])
    figure = Figure(figsize=(8.5, max(5.0, 1 + 0.19 * lines)), layout="constrained")  # room for all names
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    draw(axes, data, *arguments)
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the font lacks it; boxes are shown instead
        figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()


def _style(arm: dict[str, Any], **others: Any) -> dict[str, Any]:
    style = {
        "color": COLORS[arm["color"]],
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
    # set afterwards: as a label, a name that starts with "_" would be left out, and "$" would start a formula
    for text, arm in zip(legend.get_texts(), arms, strict=True):
        text.set_parse_math(False)
        text.set_text(_wrapped(arm["name"]))


def _wrapped(name: str, width: int = 28) -> str:
    return textwrap.fill(name, width) or " "


def _lines(axes: Axes, data: dict[str, Any], xs: list[float], values: list[list[Any]]) -> None:
    """One line per arm, bridged where a value is missing, with a bar from the lowest to the highest seed."""
    shown = []
    for arm, line in zip(data["arms"], values, strict=True):
        held = [(x, value) for x, value in zip(xs, line, strict=True) if value]
        if not held:
            continue
        shown.append(arm)
        axes.plot([x for x, _ in held], [value[0] for _, value in held], **_style(arm))
        spans = [(x, value) for x, value in held if value[1] < value[2]]
        if spans:
            axes.vlines([x for x, _ in spans], [v[1] for _, v in spans], [v[2] for _, v in spans],
                        color=COLORS[arm["color"]], alpha=0.5, linewidth=1)  # fmt: skip
    _legend(axes, shown)
    axes.set_ylabel("Top-1 accuracy on the test set (%)")


def _by_phase(axes: Axes, data: dict[str, Any]) -> None:
    xs: list[float] = [float(i) for i in range(len(data["phases"]))]
    _lines(axes, data, xs, data["accuracy"]["best_top1"])
    labels = [_wrapped(phase, 16) for phase in data["phases"]]
    axes.set_xticks(xs, labels, rotation=45 if len(xs) > 6 else 0, ha="right" if len(xs) > 6 else "center")
    for label in axes.get_xticklabels():
        label.set_parse_math(False)
    axes.set_xlabel("Training phase")
    axes.set_title("Accuracy after each phase, subnet best on validation" + _over(data), fontsize=10, loc="left")


def _over(data: dict[str, Any]) -> str:
    return "\nmean over the seeds of each arm, bars from lowest to highest" if len(data["seeds"]) > 1 else ""


def _by_cost(axes: Axes, data: dict[str, Any], cost: dict[str, Any]) -> None:
    column = {"macs": 8, "params": 9, "latency_ms": 10}[cost["key"]]
    rows = [data["subnets"][i] for i in data["last"]]
    shown = []
    for i, arm in enumerate(data["arms"]):
        points = [(r[column] / cost["scale"], r[7]) for r in rows if r[:2] == [i, 0] and None not in (r[column], r[7])]
        if not points:
            continue
        shown.append(arm)
        axes.plot(*zip(*points, strict=True), **_style(arm, linestyle="none", alpha=0.3, markersize=4))
        for front in data["fronts"][cost["key"]]:
            if (front["arm"], front["seed"]) == (i, 0):
                held = [data["subnets"][j] for j in front["rows"]]
                axes.plot([r[column] / cost["scale"] for r in held], [r[7] for r in held], **_style(arm))
    if cost["log"]:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    _legend(axes, shown)
    axes.set_xlabel(cost["label"])
    axes.set_ylabel("Top-1 accuracy on the test set (%)")
    seed = f", seed {data['seeds'][0]}" if data["seeds"] else ""
    axes.set_title(f"Subnets of the last phase{seed}; line: Pareto front", fontsize=10, loc="left", parse_math=False)


def _by_exit(axes: Axes, data: dict[str, Any]) -> None:
    _lines(axes, data, data["exits"]["heights"], data["exits"]["values"])
    axes.set_xticks(data["exits"]["heights"])
    axes.set_xlabel("Exit (height: stages before it)")
    of = (
        "Each exit of the maximal network"
        if data["exits"]["measured"]
        else "Best subnet on validation that ends at each exit"
    )
    axes.set_title(of + _over(data), fontsize=10, loc="left")


def _gains(axes: Axes, data: dict[str, Any]) -> None:
    for y, gain in enumerate(data["gains"]):
        style = _style(data["arms"][gain["arm"]], linestyle="none", markersize=8)
        axes.plot(gain["mean"], y, **style)
        values = [value for _, value in gain["seeds"]]
        if gain["interval"]:
            axes.hlines(y, *gain["interval"], color=style["color"], linewidth=2)
            axes.plot(values, [y] * len(values), linestyle="none", marker="|", color=style["color"], markersize=12)
    axes.axvline(0, color="#555555", linewidth=1)
    axes.set_ylim(len(data["gains"]) - 0.5, -0.5)
    names = [_wrapped(data["arms"][gain["arm"]]["name"]) for gain in data["gains"]]
    axes.set_yticks(range(len(names)), names, fontsize=8)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set_xlabel("Gain over the baseline (points of top-1 accuracy)")
    several = any(gain["interval"] for gain in data["gains"])
    said = "mean, 95 % bootstrap interval, strokes: seeds" if several else "one seed: differences, no interval"
    axes.set_title(f"Gain over the baseline ({said})", fontsize=10, loc="left")
