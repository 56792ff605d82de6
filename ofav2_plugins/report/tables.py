"""The tables of a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..study.comparison import Difference, PairedDifference
from ..study.composition import varied_parts
from ..study.outcomes import BEST_EXIT, BEST_SUBNET, ENSEMBLE, Measure, best_exit, final_entry
from ..study.rows import phase_entries, subnets_of
from ..study.stats import Spread, number
from ..study.summary import ArmState, Summary
from .chart_data import describe_arch
from .data_table import DataTable, PartialMean


def all_tables(summary: Summary) -> list[DataTable]:
    """Every table that is written to files, except the one of all subnets."""
    found = [outcomes_table(summary), accuracy_table(summary), gains_table(summary), outcome_differences_table(summary)]
    found += [_runs_table(summary), composition_table(summary)]
    if summary.budgets:
        found.append(budgets_table(summary))
    if summary.statements:
        found.append(_statements_table(summary))
    if summary.equal_compute_differences:
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


def _mean(found: Spread | None, seeds: int | None = None) -> float | None:
    """A mean, marked if it is over fewer than `seeds` seeds."""
    if found is None:
        return None
    return found.mean if seeds is None or found.n == seeds else PartialMean(found.mean, found.n)


def _counted(n: int) -> str:
    return "1 seed" if n == 1 else f"{n} seeds"


def difference_text(difference: Difference) -> str:
    """The mean and its interval; with fewer than three seeds, the individual runs."""
    if difference.interval is None:
        return ", ".join(f"{value:+.2f}" for value in difference.by_seed.values())
    low, high = difference.interval
    return f"{difference.mean:+.2f} ({low:+.2f} to {high:+.2f})"


def by_seed_text(difference: Difference) -> str:
    """Each seed's difference."""
    return ", ".join(f"{seed}: {value:+.2f}" for seed, value in difference.by_seed.items())


def outcomes_table(summary: Summary) -> DataTable:
    """The final outcomes of each arm, compared with the baseline."""
    shown = [measure for measure in summary.measures if measure.budget is None]
    final = {difference.arm: difference for difference in summary.final_differences}
    rows: list[list[Any]] = []
    for state in summary.states:
        best, *others = (_outcome_cells(summary, state, measure) for measure in shown)
        difference = final.get(state.arm)
        text = "baseline" if state.arm == summary.baseline else None
        if difference:
            text = f"{_counted(difference.n)}: {difference_text(difference)}"
        values = [cell for cells in others for cell in cells]
        compute = _relative_compute(summary, state)
        rows.append([state.arm, state.seeds, state_text(state), *best, text, *values, compute])
    best_name, *names = [name for m in shown for name in ([m.name, "at exit"] if m == BEST_EXIT else [m.name])]
    caption = "Top-1 accuracy on the test set at the end (%), difference of the best subnet from the baseline (points)"
    header = ["Arm", "Seeds", "Last phase", best_name, "Difference", *names, "Compute"]
    return DataTable("outcomes", caption, header, rows)


def _outcome_cells(summary: Summary, state: ArmState, measure: Measure) -> list[Any]:
    if measure == BEST_SUBNET and not state.finished:
        return [_mean(state.best, state.seeds)]
    alone = measure in (BEST_EXIT, ENSEMBLE) and not summary.has_exits(state.arm)
    cells: list[Any] = [None if alone else _mean(summary.outcome(state.arm, measure), state.seeds)]
    if measure == BEST_EXIT:
        chosen = [best_exit(final_entry(row)) for row in summary.runs(state.arm)]
        exits = sorted({height for height, _ in filter(None, chosen)}) if not alone else []
        cells.append(", ".join(map(str, exits)) or None)
    return cells


def _relative_compute(summary: Summary, state: ArmState) -> float | None:
    """The training compute of an arm's finished runs, relative to that of the baseline's."""
    own, base = (summary.total(arm, "training_macs", finished=True) for arm in (state.arm, summary.baseline))
    return own.mean / base.mean if own and base and base.mean else None


def state_text(state: ArmState) -> str | None:
    """The last phase, and whether the arm failed there or has not finished."""
    if state.finished or state.phase is None:
        return "failed" if state.failed and state.phase is None else state.phase
    return f"{state.phase}, {'failed' if state.failed else 'unfinished'}"


def budgets_table(summary: Summary) -> DataTable:
    """The accuracy of the chosen subnet under each MACs budget."""
    shown = [measure for measure in summary.measures if measure.budget is not None]
    rows: list[list[Any]] = [
        [state.arm, state.seeds, *(_mean(summary.outcome(state.arm, measure), state.seeds) for measure in shown)]
        for state in summary.states
        if state.finished
    ]
    caption = "Top-1 accuracy on the test set of the subnet best on validation within a MACs budget (%)"
    return DataTable("budgets", caption, ["Arm", "Seeds", *(measure.name for measure in shown)], rows)


def outcome_differences_table(summary: Summary) -> DataTable:
    """Every finished arm minus the baseline in every measure."""
    rows: list[list[Any]] = []
    for measure in summary.measures:
        for arm in summary.arms:
            difference = summary.outcome_difference(arm, measure)
            if arm != summary.baseline and difference.n:
                rows.append([arm, measure.name, *_difference_cells(difference)])
    caption = f"Difference from {summary.baseline} at the end, paired by seed (points)"
    header = ["Arm", "Measure", "Seeds", "Mean", "95 % from", "95 % to", "By seed"]
    return DataTable("outcome-differences", caption, header, rows)


def _difference_cells(difference: Difference) -> list[Any]:
    """Seeds, mean, interval (for three or more seeds), individual runs."""
    summarised = [difference.mean, *difference.interval] if difference.interval else [None, None, None]
    return [difference.n, *summarised, by_seed_text(difference)]


def outcome_differences_matrix(summary: Summary) -> DataTable:
    """The same data with one row per arm, for the page."""
    rows: list[list[Any]] = []
    for arm in summary.arms:
        found = [summary.outcome_difference(arm, measure) for measure in summary.measures]
        if arm != summary.baseline and any(difference.n for difference in found):
            seeds = max(difference.n for difference in found)
            rows.append([arm, seeds, *(difference_text(each) or None for each in found)])
    table = outcome_differences_table(summary)
    return replace(table, header=["Arm", "Seeds", *(measure.name for measure in summary.measures)], rows=rows)


def _statements_table(summary: Summary) -> DataTable:
    rows: list[list[Any]] = [
        [
            statement.text,
            claim.text,
            f"{finding.arm} against {finding.other}",
            finding.phase,
            *_difference_cells(finding.difference),
            finding.published,
            finding.verdict,
        ]
        for statement in summary.statements
        for claim in statement.claims
        for finding in claim.findings
    ]
    header = ["Statement", "Claim", "Comparison", "After", "Seeds", "Mean", "95 % from", "95 % to", "By seed"]
    return DataTable("statements", "The paper's statements", [*header, "Paper", "Verdict"], rows)


def composition_table(summary: Summary) -> DataTable:
    """The plugins and settings in which the arms differ."""
    varied = varied_parts(summary.compositions) or ["supernet"]
    rows: list[list[Any]] = [[arm, *map(parts.get, varied)] for arm, parts in summary.compositions.items()]
    return DataTable("arms", "Plugins and settings in which the arms differ", ["Arm", *varied], rows)


def _exit_tables(summary: Summary) -> list[DataTable]:
    """Accuracy by exit after each arm's last phase; if exits were measured, also after every phase."""
    seeds = {state.arm: state.seeds for state in summary.states}
    heights = sorted({height for _, exits in summary.exits.values() for height in exits})
    header = ["Arm", "Seeds", "After", *(f"Exit {height}" for height in heights)]
    caption = "Top-1 accuracy on the test set by exit (%)"

    def cells(arm: str, phase: str | None, exits: Mapping[int, Spread]) -> list[Any]:
        n = max((found.n for found in exits.values()), default=seeds[arm])
        return [arm, n, phase, *(_mean(exits.get(height), n) for height in heights)]

    last = [cells(arm, phase, exits) for arm, (phase, exits) in summary.exits.items()]
    if not summary.exits_are_measured:
        return [DataTable("exits", caption, header, last)]
    for row, (arm, (phase, _)) in zip(last, summary.exits.items(), strict=True):
        row.append(_mean(summary.over_seeds(arm, phase or "", "ensemble_top1"), row[1]))
    every = [
        [*cells(arm, phase, exits), _mean(summary.over_seeds(arm, phase, "ensemble_top1"))]
        for arm in summary.exits
        for phase in summary.phases
        if (exits := summary.exits_after(arm, phase))
    ]
    header.append(ENSEMBLE.name)
    return [DataTable("exits", caption, header, last), DataTable("exits-by-phase", caption, header, every)]


COSTS: list[tuple[str, str, list[tuple[float, str]]]] = [
    ("training_macs", "compute", [(1e15, "PMAC"), (1e12, "TMAC"), (1e9, "GMAC"), (1, "MAC")]),
    ("seconds", "time", [(3600, "h"), (60, "min"), (1, "s")]),
    ("energy_kwh", "energy", [(1, "kWh"), (1e-3, "Wh")]),
    ("peak_memory_mib", "memory", [(1024, "GiB"), (1, "MiB")]),
]


def _cost_table(summary: Summary, key: str, name: str, units: list[tuple[float, str]]) -> DataTable:
    by_phase = {arm: [_mean(summary.over_seeds(arm, p, key)) for p in summary.phases] for arm in summary.arms}
    combine = summary.peak if key == "peak_memory_mib" else summary.total
    lines = {arm: [*values, _mean(combine(arm, key))] for arm, values in by_phase.items()}
    largest = max(value for line in lines.values() for value in line if value is not None)
    scale, unit = next((u for u in units if largest >= 2 * u[0]), units[-1])
    rows = [[arm, *(v if v is None else v / scale for v in line)] for arm, line in lines.items()]
    if key == "peak_memory_mib":
        last, caption = "Peak", f"Peak memory of the process while each phase trained ({unit})"
    else:
        last, caption = "Total", f"{name.capitalize()} per phase ({unit})"
    return DataTable(name, caption, ["Arm", *summary.phases, last], rows, digits=1)


def accuracy_table(summary: Summary) -> DataTable:
    """Arms by phases: accuracy of the subnet best on validation, mean over seeds."""
    rows: list[list[Any]] = []
    for arm in summary.arms:
        found = [summary.over_seeds(arm, phase, "best_top1") for phase in summary.phases]
        seeds = max((each.n for each in found if each), default=0)
        rows.append([arm, seeds, *(_mean(each, seeds) for each in found)])
    caption = "Top-1 accuracy on the test set after each phase (%)"
    return DataTable("accuracy", caption, ["Arm", "Seeds", *summary.phases], rows)


def gains_table(summary: Summary) -> DataTable:
    """Each arm's difference from the baseline after the same phases."""
    caption = f"Gain over {summary.baseline} at equal epochs of every phase that both have, paired by seed (points)"
    return _gains_table("gains", caption, summary.differences, summary.study["factors"])


def equal_compute_table(summary: Summary) -> DataTable:
    """Each arm's difference from the baseline at the baseline's training compute or less."""
    found = summary.equal_compute_differences
    caption = f"Gain over {summary.baseline} at equal compute or less (training MACs), paired by seed (points)"
    table = _gains_table("gains-equal-compute", caption, found)
    shares = [None if each.compute_share is None else 100 * each.compute_share for each in found]
    rows = [[*row, share] for row, share in zip(table.rows, shares, strict=True)]
    return replace(table, header=[*table.header, "Compute (%)"], rows=rows)


def _gains_table(
    name: str, caption: str, differences: list[PairedDifference], factors: Mapping[str, str] | None = None
) -> DataTable:
    rows: list[list[Any]] = [
        [each.arm, *([factors.get(each.arm)] if factors else []), each.compared_at, *_difference_cells(each)]
        for each in differences
    ]
    changed = ["Change"] if factors else []
    header = ["Arm", *changed, "Compared at", "Seeds", "Mean", "95 % from", "95 % to", "By seed"]
    return DataTable(name, caption, header, rows)


_RUN = ["best_top1", "test_max_top1", "mean_top1", "min_top1", "ensemble_top1"]
_RUN += ["training_macs", "seconds", "energy_kwh", "peak_memory_mib"]


def _runs_table(summary: Summary) -> DataTable:
    rows = [
        [row["arm"], row.get("seed"), entry["name"], *(number(entry.get(key)) for key in _RUN)]
        for row in summary.rows
        for entry in phase_entries(row)
    ]
    return DataTable("runs", "Every phase of every arm and seed", ["arm", "seed", "phase", *_RUN], rows)


def subnets_table(summary: Summary) -> DataTable:
    """Every subnet that was measured."""
    keys = ("resolution", "ensemble", "val_top1", "top1", "macs", "params", "latency_ms")
    rows = [
        [row["arm"], row.get("seed"), entry["name"], *describe_arch(subnet.get("arch") or {}), *map(subnet.get, keys)]
        for row in summary.rows
        for entry in phase_entries(row)
        for subnet in subnets_of(entry)
    ]
    header = ["arm", "seed", "phase", "d", "ks", "e", "level", "height", "other", *keys]
    return DataTable("subnets", "Every subnet that was measured", header, rows)
