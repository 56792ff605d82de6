"""The data of the report's charts, shared by the page and the images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..study.comparison import PairedDifference
from ..study.outcomes import BEST_SUBNET, validation_front
from ..study.rows import phase_entries, subnets_of
from ..study.stats import Spread, number
from ..study.summary import COSTS, Summary

BASELINE_COLOR = "var(--ink)"
"""The text color: black on a white page, white on a black one."""

COLORS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
    "#9800f8", "#981060", "#585010", "#2818f8", "#f828f8", "#48c800", "#8078f8", "#e80068", "#6038a0", "#906068",
    "#c000b0", "#90b890", "#887800", "#007800", "#b81800", "#005868", "#f880f0",
)  # fmt: skip
"""The Okabe-Ito palette without black and yellow. Each further color is as distant as possible (in OKLab) from all
previous ones, among the colors that are visible on white and on black."""

N_MARKERS, N_DASHES = 11, 5
"""Coprime with each other and with the 23 colors: 1265 arms have distinct styles, and neighbors differ in all three."""

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
SUBNET_COLUMNS = (
    "arm", "seed", "phase", "arch", "resolution", "ensemble", "val_top1", "top1", "macs", "params", "latency_ms"
)  # fmt: skip
TOP1 = SUBNET_COLUMNS.index("top1")


def chart_data(summary: Summary) -> dict[str, Any]:
    """Everything that the charts show, as finite JSON: values that are missing or not finite are null."""
    exits = summary.exits
    heights = sorted({height for _, found in exits.values() for height in found})
    accuracy = {
        key: [[_triple(summary.over_seeds(arm, p, key)) for p in summary.phases] for arm in summary.arms]
        for key in MEASURES
    }
    by_exit = [
        [_triple(exits[arm][1].get(height)) if arm in exits else None for height in heights] for arm in summary.arms
    ]
    return {
        "arms": _arms(summary),
        "phases": summary.phases,
        "seeds": [str(seed) for seed in summary.seeds],
        "measures": MEASURES,
        "accuracy": {key: {"values": lines, "outlying": _outlying_lines(lines)} for key, lines in accuracy.items()},
        "exits": {
            "heights": heights,
            "measured": summary.exits_are_measured,
            "phases": [exits[arm][0] if arm in exits else None for arm in summary.arms],
            "values": by_exit,
            "outlying": _outlying_lines(by_exit),
        },
        "gains": _gains(summary),
        "costs": [_cost(summary, cost) for cost in summary.costs],
        **_subnets(summary),
    }


def _arms(summary: Summary) -> list[dict[str, Any]]:
    arms, others = [], 0
    for state in summary.states:
        base = state.arm == summary.baseline
        seeds = f"{state.seeds} seed{'s' if state.seeds != 1 else ''}"
        arms.append(
            {
                "name": state.arm,
                "note": seeds if summary.seed_counts_differ and state.seeds else "",
                "color": BASELINE_COLOR if base else COLORS[others % len(COLORS)],
                "marker": 0 if base else (others + 1) % N_MARKERS,
                "dash": 0 if base else (others + 1) % N_DASHES,
            }
        )
        others += not base
    return arms


def _triple(found: Spread | None) -> list[float] | None:
    return [found.mean, found.low, found.high, found.n] if found else None


def outlying(spans: Mapping[int, tuple[float, float]]) -> list[int]:
    """Arms that would compress the others if an axis covered all of their values.

    This is the smallest set of arms at the low or high end, at most a third of all, whose removal shrinks the range to
    two thirds or less. Ranges below two points count as two, because a finer scale would magnify noise.

    Args:
        spans: Arm -> lowest and highest value.
    """
    found: list[int] = []
    limit = len(spans) // 3
    while len(found) < limit:
        rest = {arm: span for arm, span in spans.items() if arm not in found}
        orders = [sorted(rest, key=lambda arm: rest[arm][0]), sorted(rest, key=lambda arm: -rest[arm][1])]
        groups = [order[:n] for n in range(1, limit - len(found) + 1) for order in orders]
        flattening = next((group for group in groups if _flatten(rest, group)), None)
        if flattening is None:
            break
        found += flattening
    return sorted(found)


def _flatten(spans: Mapping[int, tuple[float, float]], group: Iterable[int]) -> bool:
    left = [span for arm, span in spans.items() if arm not in group]
    return _range(left) <= _range(spans.values()) * 2 / 3


def _range(spans: Iterable[tuple[float, float]]) -> float:
    lows, highs = zip(*spans, strict=True)
    span: float = max(max(highs) - min(lows), 2.0)
    return span


def _outlying_lines(lines: list[list[list[float] | None]]) -> list[int]:
    known = {arm: [value for value in line if value] for arm, line in enumerate(lines)}
    return outlying({arm: (min(v[1] for v in line), max(v[2] for v in line)) for arm, line in known.items() if line})


def _gains(summary: Summary) -> list[dict[str, Any]]:
    """Groups of differences from the baseline: after the same phases, at equal compute, and by outcome."""
    groups = [
        ("epochs", "best subnet, at equal epochs", summary.differences),
        ("compute", "best subnet, at equal training compute", summary.equal_compute_differences),
    ]
    for measure in summary.measures:
        found = [summary.outcome_difference(arm, measure) for arm in summary.arms if arm != summary.baseline]
        if measure != BEST_SUBNET:
            groups.append((measure.key, measure.description, [each for each in found if each.n]))
    return [_gain_group(summary, *group) for group in groups if group[2]]


def _gain_group(summary: Summary, key: str, name: str, differences: list[PairedDifference]) -> dict[str, Any]:
    rows = [
        {
            "arm": summary.arms.index(each.arm),
            "phase": each.compared_at,
            "mean": each.mean,
            "interval": each.interval,
            "seeds": [[str(seed), value] for seed, value in each.by_seed.items()],
        }
        for each in differences
    ]
    spans = {i: (min(values), max(values)) for i, row in enumerate(rows) if (values := gain_values(row))}
    return {"key": key, "name": name, "rows": rows, "outlying": outlying(spans)}


def gain_values(row: Mapping[str, Any]) -> list[float]:
    """The values of a difference that an axis must cover."""
    return [*(value for _, value in row["seeds"]), *(row["interval"] or ())]


def _cost(summary: Summary, cost: str) -> dict[str, Any]:
    """The label and scale of a cost axis, in a suitable unit; logarithmic if values differ 30-fold."""
    values = [number(s.get(cost)) for arm in summary.arms for s in summary.subnets(arm)]
    known = [value for value in values if value is not None]
    name, label, units = COST_LABELS[cost]
    scale, unit = next((u for u in units if max(known) >= u[0]), units[-1])
    log = min(known) > 0 and max(known) / min(known) > 30
    label = f"{label[0].upper()}{label[1:]}" + (f" ({unit})" if unit else "") + (", logarithmic" if log else "")
    budgets = summary.budgets if cost == "macs" else []
    column = SUBNET_COLUMNS.index(cost)
    return {
        "key": cost, "name": name, "label": label, "unit": unit, "scale": scale, "log": log, "column": column,
        "budgets": budgets,
    }  # fmt: skip


def describe_arch(arch: dict[str, Any]) -> list[str]:
    """A short description of an architecture: depths, kernels, expand ratios, level, height, other dimensions."""
    stages = len(arch["d"]) if isinstance(arch.get("d"), list) and arch["d"] else 1
    others = [f"{name} {_compact(value, stages)}" for name, value in arch.items() if name not in DIMENSIONS]
    return [*(_compact(arch.get(name), stages) for name in DIMENSIONS), "; ".join(others)]


def _compact(value: Any, stages: int) -> str:
    """A single value if all entries are equal, otherwise the entries of each stage."""
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
    """All measured subnets as compact rows with indices of architectures, and the fronts of the last phases."""
    archs: dict[tuple[str, ...], int] = {}
    rows: list[list[Any]] = []
    groups: dict[tuple[int, int], tuple[list[int], list[Mapping[str, Any]]]] = {}
    lasts = {arm: summary.last_phase(arm) for arm in summary.arms}
    for row in summary.rows:
        arm, seed = summary.arms.index(row["arm"]), summary.seeds.index(row.get("seed"))
        for entry in sorted(phase_entries(row), key=lambda entry: summary.phases.index(entry["name"])):
            for subnet in subnets_of(entry):
                arch = archs.setdefault(tuple(describe_arch(subnet.get("arch") or {})), len(archs))
                if entry["name"] == lasts[row["arm"]]:
                    indices, subnets = groups.setdefault((arm, seed), ([], []))
                    indices.append(len(rows))
                    subnets.append(subnet)
                shape = [subnet.get("resolution"), int(bool(subnet.get("ensemble")))]
                values = [number(subnet.get(key)) for key in SUBNET_COLUMNS[6:]]
                rows.append([arm, seed, summary.phases.index(entry["name"]), arch, *shape, *values])
    fronts = {}
    for cost in COSTS:
        found = [
            {"arm": arm, "seed": seed, "rows": [indices[i] for i in validation_front(subnets, cost)]}
            for (arm, seed), (indices, subnets) in groups.items()
        ]
        fronts[cost] = [front for front in found if front["rows"]]
    last = [i for indices, _ in groups.values() for i in indices]
    accuracies: dict[int, list[float]] = {}
    for i in last:
        if rows[i][TOP1] is not None:
            accuracies.setdefault(rows[i][0], []).append(rows[i][TOP1])
    spans = {arm: (min(values), max(values)) for arm, values in accuracies.items()}
    return {
        "archs": [list(arch) for arch in archs],
        "subnets": rows,
        "last": last,
        "fronts": fronts,
        "outlying_subnets": outlying(spans),
    }
