"""front.png: the front with samples and random search, predicted and measured accuracy, and a grid of the networks."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator

SAMPLE, RANDOM, PREDICTED, FRONT = "#9AA0A6", "#E69F00", "#56B4E9", "#D55E00"
SHOWN = 10
"""Networks in the grid."""


def draw_front(content: dict[str, Any], dims: dict[str, dict[str, Any]]) -> bytes:
    """The picture as PNG.

    Args:
        content: The content of search.json.
        dims: Dimension -> its entry of `SearchSpace.to_dict`, and "active": booleans [front, entries].
    """
    rows = _grid_rows(content["front"])
    figure = Figure(figsize=(11, 5 + 0.3 * len(rows) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subfigures(2, 1, height_ratios=[5, 0.3 * len(rows) + 0.6], squeeze=False)[:, 0]
    left, right = top.subplots(1, 2, width_ratios=[3, 2])
    _front(left, content)
    _held_out(right, content)
    _grid(bottom, content, dims, rows)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def _front(axes: Axes, content: dict[str, Any]) -> None:
    points = content["points"]
    cost, accuracy = _axes_names(content)
    axes.scatter(*_columns(points["samples"]), s=9, color=SAMPLE, label="samples, on validation images")
    for name, color, label in (
        ("random_front", RANDOM, "front of a random search, predicted"),
        ("predicted_front", PREDICTED, "front of the search, predicted"),
    ):
        axes.plot(*_columns(points[name]), color=color, linewidth=1.5, drawstyle="steps-post", label=label)
    front = [row for row in content["front"] if row.get(cost) is not None]
    axes.plot(
        [row[cost] for row in front],
        [row[accuracy.replace("top1", "val_top1")] for row in front],
        "o", color=FRONT, markersize=5, label="front, measured on validation images",
    )  # fmt: skip
    axes.plot(
        [row[cost] for row in front],
        [row[accuracy] for row in front],
        "x", color="#000000", markersize=5, label="the same, on test images",
    )  # fmt: skip
    axes.set_xlabel(points["x"])
    axes.set_ylabel(points["y"])
    axes.set_xscale("log")
    for which in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        which(EngFormatter(sep="", places=None))
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
    axes.tick_params(axis="x", which="both", labelsize=8)
    axes.legend(fontsize=7, loc="lower right")
    axes.grid(alpha=0.3)
    axes.set_title("Front", fontsize=10)


def _axes_names(content: dict[str, Any]) -> tuple[str, str]:
    settings = content["settings"]["objectives"]
    accuracy = next(name for name in settings if name in ("top1", "expected_top1"))
    return next((name for name in settings if name not in ("top1", "expected_top1")), "macs"), accuracy


def _held_out(axes: Axes, content: dict[str, Any]) -> None:
    predictor, pairs = content["predictor"], np.array(content["points"]["held_out"])
    axes.scatter(pairs[:, 1], pairs[:, 0], s=9, color=PREDICTED)
    low, high = pairs.min() - 1, pairs.max() + 1
    axes.plot([low, high], [low, high], color=SAMPLE, linewidth=1)
    axes.set_xlabel("measured on validation images")
    axes.set_ylabel(f"predicted by {predictor['name']}, held out")
    axes.set_aspect("equal")
    axes.grid(alpha=0.3)
    axes.set_title(
        f"Predictor: Kendall tau {predictor['kendall_tau']:.2f} (halves of the images "
        f"{predictor['kendall_tau_ceiling']:.2f})",
        fontsize=10,
    )


def _grid_rows(front: list[dict[str, Any]]) -> list[int]:
    """Indices of the networks in the grid: all, or a selection from the smallest to the largest."""
    return sorted({round(place) for place in np.linspace(0, len(front) - 1, min(SHOWN, len(front)))}) if front else []


def _grid(figure: Any, content: dict[str, Any], dims: dict[str, dict[str, Any]], rows: list[int]) -> None:
    """Each network as a row, each entry of its architecture as a cell: darker is larger, blank is absent."""
    if not rows:
        return
    widths = [max(4, dim["length"] or 2) for dim in dims.values()]
    panels = np.atleast_1d(figure.subplots(1, len(dims), width_ratios=widths, sharey=True))
    for axes, (name, dim) in zip(panels, dims.items(), strict=True):
        active = np.array(dim["active"])[rows]
        values = np.array([_ranks(content["front"][row]["arch"].get(name), dim) for row in rows], dtype=float)
        shade = np.where(active, (1 + values) / (1 + len(_values(dim))), np.nan)
        axes.imshow(shade, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_title(name, fontsize=8)
        axes.set_xticks([])
        networks = [content["front"][row] for row in rows]
        axes.set_yticks(
            range(len(rows)), [f"{n['macs'] / 1e6:.3g} M, {n['resolution']} px" for n in networks], fontsize=7
        )
        for (y, x), value in np.ndenumerate(shade):
            if np.isfinite(value):
                dark = "#FFFFFF" if value > 0.6 else "#000000"
                axes.text(x, y, str(_values(dim)[int(values[y, x])]), ha="center", va="center", fontsize=6, color=dark)
    panels[0].set_ylabel("MACs and resolution", fontsize=8)


def _values(dim: dict[str, Any]) -> list[float]:
    """All values of a dimension in ascending order, including those of entries with their own values."""
    return sorted({*dim["values"], *itertools.chain(*dim.get("own_values", {}).values())})


def _ranks(value: Any, dim: dict[str, Any]) -> list[int]:
    """The rank of each entry among the dimension's values; for a subset, the rank of its size."""
    entries = value if dim["length"] is not None else [value]
    return [_values(dim).index(len(entry) if isinstance(entry, list) else entry) for entry in entries]


def _columns(pairs: list[list[float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in pairs], [y for _, y in pairs]
