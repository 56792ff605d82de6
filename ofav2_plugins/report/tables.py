"""The tables of a report, as console, HTML, CSV and TeX show them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..study.comparison import PairedDifference
from ..study.stats import number
from ..study.summary import Summary
from .charts import describe

MISSING = "–"


@dataclass(frozen=True)
class DataTable:
    """A table as console, HTML, CSV and TeX show it; numbers stay numbers until then.

    Args:
        name: Its file's name.
        caption: What the numbers are, with their unit.
        header: Column names.
        rows: Text, numbers, or None where there is no value.
        digits: Decimals where it is read by people; CSV has all.
    """

    name: str
    caption: str
    header: list[str]
    rows: list[list[Any]]
    digits: int = 2

    def formatted(self) -> list[list[str]]:
        """The rows as text."""
        return [[self._cell(value) for value in row] for row in self.rows]

    def _cell(self, value: Any) -> str:
        if value is None:
            return MISSING
        return f"{value:.{self.digits}f}" if isinstance(value, float) else str(value)

    def csv(self) -> str:
        """As CSV with a header line; a missing value is an empty field."""
        text = io.StringIO()
        held = [[None if value != value else value for value in row] for row in self.rows]  # no NaN
        csv.writer(text, lineterminator="\n").writerows([self.header, *held])
        return text.getvalue()

    def tex(self) -> str:
        """As a TeX tabular that needs no package."""
        head, *body = [" & ".join(map(_tex, row)) + r" \\" for row in [self.header, *self.formatted()]]
        columns = "l" + "r" * (len(self.header) - 1)
        lines = [rf"\begin{{tabular}}{{{columns}}}", head, r"\hline", *body, r"\end{tabular}"]
        return f"% {' '.join(self.caption.split())}\n" + "\n".join(lines) + "\n"


_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", MISSING: "--"}
_TEX |= {char: "\\" + char for char in "&%$#_{}"}


def _tex(text: str) -> str:
    return "".join(_TEX.get(char, char) for char in " ".join(text.split()))


def all_tables(summary: Summary) -> list[DataTable]:
    """Every table of the report but the one of all subnets."""
    found = [final_results_table(summary), accuracy_table(summary), gains_table(summary), _runs_table(summary)]
    if summary.gains_at_equal_compute:
        found.append(equal_compute_table(summary))
    if summary.exits:
        found += _exit_tables(summary)
    pairs = [[c.a, c.b, c.rho, c.n] for c in summary.correlations]
    header = ["Arm", "Other arm", "Spearman", "Shared subnets"]
    found.append(DataTable("rank-correlation", "Rank correlation over the subnets that both have", header, pairs))
    for key, name, units in COSTS:
        totals = [_mean(summary.total(arm, key)) for arm in summary.arms]
        if any(totals):
            found.append(_cost_table(summary, key, name, units))
    return found


def _exit_tables(summary: Summary) -> list[DataTable]:
    """Accuracy by exit at each arm's last phase; where exits were measured, also after every phase."""
    heights = sorted({height for _, held in summary.exits.values() for height in held})
    header = ["Arm", "After", *(f"Exit {height}" for height in heights)]
    caption = "Top-1 accuracy on the test set by exit (%)"
    last = [[arm, phase, *(_mean(held.get(h)) for h in heights)] for arm, (phase, held) in summary.exits.items()]
    if not summary.exits_are_measured:
        return [DataTable("exits", caption, header, last)]
    every = [
        [arm, phase, *(_mean(held.get(h)) for h in heights), _mean(summary.over_seeds(arm, phase, "ensemble_top1"))]
        for arm in summary.exits
        for phase in summary.phases
        if (held := summary.exits_after(arm, phase))
    ]
    last = [[*row, _mean(summary.ensemble(arm))] for arm, row in zip(summary.exits, last, strict=True)]
    header.append("All together")
    return [DataTable("exits", caption, header, last), DataTable("exits-by-phase", caption, header, every)]


COSTS: list[tuple[str, str, list[tuple[float, str]]]] = [
    ("training_macs", "compute", [(1e15, "PMAC"), (1e12, "TMAC"), (1e9, "GMAC"), (1, "MAC")]),
    ("seconds", "time", [(3600, "h"), (60, "min"), (1, "s")]),
    ("energy_kwh", "energy", [(1, "kWh"), (1e-3, "Wh")]),
    ("peak_memory_mib", "memory", [(1024, "GiB"), (1, "MiB")]),
]


def _cost_table(summary: Summary, key: str, name: str, units: list[tuple[float, str]]) -> DataTable:
    held = {arm: [_mean(summary.over_seeds(arm, p, key)) for p in summary.phases] for arm in summary.arms}
    combine = summary.peak if key == "peak_memory_mib" else summary.total
    lines = [[*held[arm], _mean(combine(arm, key))] for arm in summary.arms]
    largest = max(value for line in lines for value in line if value is not None)
    scale, unit = next((u for u in units if largest >= 2 * u[0]), units[-1])
    rows = [
        [arm, *(v if v is None else v / scale for v in line)] for arm, line in zip(summary.arms, lines, strict=True)
    ]
    if key == "peak_memory_mib":
        last, caption = "Peak", f"Peak memory of the process while each phase trained ({unit})"
    else:
        last, caption = "Total", f"{name.capitalize()} per phase ({unit})"
    return DataTable(name, caption, ["Arm", *summary.phases, last], rows, digits=1)


def _mean(held: Any) -> float | None:
    return held.mean if held else None


def accuracy_table(summary: Summary) -> DataTable:
    """Arms by phases: best accuracy, mean over seeds."""
    rows = [[a, *(_mean(summary.over_seeds(a, p, "best_top1")) for p in summary.phases)] for a in summary.arms]
    caption = "Top-1 accuracy on the test set after each phase (%)"
    return DataTable("accuracy", caption, ["Arm", *summary.phases], rows)


def final_results_table(summary: Summary) -> DataTable:
    """Where each arm ends, and its gain over the baseline."""
    gains = {gain.arm: gain.mean for gain in summary.gains if gain.phase == summary.last_phase(gain.arm)}
    rows: list[list[Any]] = []
    for end in summary.final_results:
        gain = gains.get(end.arm)
        signed = "baseline" if end.arm == summary.baseline else None if gain is None else f"{gain:+.2f}"
        rows.append([end.arm, end.phase, end.seeds, *map(_mean, (end.best, end.mean, end.worst)), signed])
    caption = (
        "Top-1 accuracy on the test set at each arm's last phase (%), gain over the baseline paired by seed (points)"
    )
    return DataTable("final-results", caption, ["Arm", "Last phase", "Seeds", "Best", "Mean", "Worst", "Gain"], rows)


def gains_table(summary: Summary) -> DataTable:
    """Each arm's gain over the baseline, with its interval where there are several seeds."""
    caption = f"Gain over {summary.baseline} at equal epochs of every phase that both have, paired by seed (points)"
    return _gains_table("gains", caption, summary.gains, summary.study["factors"])


def equal_compute_table(summary: Summary) -> DataTable:
    """The same where the arm had computed no more than the whole baseline, and how much that is of it."""
    caption = f"Gain over {summary.baseline} at equal compute or less (training MACs), paired by seed (points)"
    table = _gains_table("gains-equal-compute", caption, summary.gains_at_equal_compute)
    shares = [None if gain.share is None else 100 * gain.share for gain in summary.gains_at_equal_compute]
    rows = [[*row, share] for row, share in zip(table.rows, shares, strict=True)]
    return replace(table, header=[*table.header, "Compute (%)"], rows=rows)


def _gains_table(
    name: str, caption: str, gains: list[PairedDifference], factors: Mapping[str, str] | None = None
) -> DataTable:
    rows: list[list[Any]] = []
    for gain in gains:
        values = ", ".join(f"{value:+.2f}" for value in gain.by_seed.values())
        numbers = [len(gain.by_seed), gain.mean, *(gain.interval or (None, None)), values]
        rows.append([gain.arm, *([factors.get(gain.arm)] if factors else []), gain.where, *numbers])
    changed = ["What it changes"] if factors else []
    header = ["Arm", *changed, "Compared at", "Seeds", "Mean gain", "95 % from", "95 % to", "By seed"]
    return DataTable(name, caption, header, rows)


_RUN = ["best_top1", "test_max_top1", "mean_top1", "min_top1", "ensemble_top1"]
_RUN += ["training_macs", "seconds", "energy_kwh", "peak_memory_mib"]


def _runs_table(summary: Summary) -> DataTable:
    rows = [
        [row["arm"], row.get("seed"), entry["name"], *(number(entry.get(key)) for key in _RUN)]
        for row in summary.rows
        for entry in row.get("phases") or []
    ]
    return DataTable("runs", "Every phase of every arm and seed", ["arm", "seed", "phase", *_RUN], rows)


def subnets_table(summary: Summary) -> DataTable:
    """Every subnet that was measured."""
    keys = ("resolution", "ensemble", "val_top1", "top1", "macs", "params", "latency_ms")
    rows = [
        [
            row["arm"],
            row.get("seed"),
            entry["name"],
            *describe(subnet.get("arch") or {}),
            *map(subnet.get, keys),
        ]
        for row in summary.rows
        for entry in row.get("phases") or []
        for subnet in entry.get("subnets") or []
    ]
    header = ["arm", "seed", "phase", "d", "ks", "e", "level", "height", "other", *keys]
    return DataTable("subnets", "Every subnet that was measured", header, rows)
