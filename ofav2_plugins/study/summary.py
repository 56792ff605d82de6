"""The summary of a study's results: the source of the report, its charts and its tables. Does not import torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

from ..errors import UserError
from .comparison import PairedDifference, equal_compute_differences, paired_differences
from .composition import compositions
from .outcomes import Measure, final_entry, macs_budgets, measures, outcomes
from .rows import (
    Row,
    distinct_rows,
    has_failed,
    is_finished,
    phase_entries,
    phase_order,
    plan_end,
    plan_of,
    subnets_of,
    with_plans,
)
from .searched import search_error, search_measures, search_outcomes
from .statements import Statement, check_statements
from .stats import Spread, number, spearman, spread

COSTS = ("macs", "params", "latency_ms")


def subnet_key(subnet: Row) -> str:
    """A key that identifies a measured network across supernets.

    Supernets without exits and branches always use the last exit and only the MB block at every position, so these
    entries are omitted.
    """
    arch = dict(subnet.get("arch") or {})
    depths = arch.get("d")
    if isinstance(depths, list) and arch.get("height") == len(depths):
        del arch["height"]
    level = arch.get("level")
    if isinstance(level, list) and all(entry == ["mbconv"] for entry in level):
        del arch["level"]
    return json.dumps([arch, subnet.get("resolution"), bool(subnet.get("ensemble"))], sort_keys=True)


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rho of two arms over the `n` subnets that both measured in their last phase."""

    a: str
    b: str
    rho: float | None
    n: int


@dataclass(frozen=True)
class ArmState:
    """The progress of an arm.

    Args:
        arm: The arm.
        phase: The last finished phase of the most advanced run; None if there is none.
        goal: The last step of the plan.
        seeds: Number of runs with an accuracy for that phase.
        runs: Number of runs of the arm.
        failed: Whether a run failed before the end of its plan.
        best: Accuracy (%) of the subnet best on validation after that phase.
    """

    arm: str
    phase: str | None
    goal: str | None
    seeds: int
    runs: int
    failed: bool
    best: Spread | None

    @property
    def finished(self) -> bool:
        """Whether at least one run has finished its plan."""
        return self.best is not None and self.phase == self.goal


class Summary:
    """The results of a study, summarised.

    Args:
        results: The content of results.json.

    Raises:
        UserError: The baseline is not one of the arms, or two rows with the same arm and seed differ.
    """

    def __init__(self, results: Mapping[str, Any]):
        given = {key: value for key, value in (results.get("study") or {}).items() if value is not None}
        defaults: dict[str, Any] = {"description": "", "dataset": "", "command": "", "recipes": {}, "factors": {}}
        self.study: Mapping[str, Any] = {**defaults, **given}
        self.environment: Mapping[str, Any] = results.get("environment") or {}
        self.rows: list[Row] = with_plans(distinct_rows(results.get("rows") or []))
        self.baseline: str = self.study.get("baseline") or ""
        self.arms = list(dict.fromkeys([*(row["arm"] for row in self.rows), *self.study["recipes"]]))
        if self.arms and self.baseline not in self.arms:
            raise UserError(
                f"the baseline must be one of the arms {', '.join(self.arms)}, but got {self.baseline!r}; correct "
                "study.baseline in results.json"
            )
        self.seeds = list(dict.fromkeys(row.get("seed") for row in self.rows))
        reached = {entry["name"] for row in self.rows for entry in phase_entries(row)}
        self.phases = [phase for phase in phase_order(map(plan_of, self.rows)) if phase in reached]

    def runs(self, arm: str) -> list[Row]:
        """The rows of an arm, one per seed."""
        return [row for row in self.rows if row["arm"] == arm]

    def over_seeds(self, arm: str, phase: str, key: str) -> Spread | None:
        """A field of a phase's results over the arm's seeds."""
        entries = [entry for row in self.runs(arm) for entry in phase_entries(row) if entry["name"] == phase]
        return spread(entry.get(key) for entry in entries)

    def last_phase(self, arm: str) -> str | None:
        """The last finished phase of the arm's most advanced run."""
        names = [[entry["name"] for entry in phase_entries(row)] for row in self.runs(arm)]
        longest = max(names, key=len, default=[])
        return longest[-1] if longest else None

    @cached_property
    def states(self) -> list[ArmState]:
        """The progress of each arm."""
        found = []
        for arm in self.arms:
            runs, last = self.runs(arm), self.last_phase(arm)
            best = self.over_seeds(arm, last, "best_top1") if last else None
            goal = next((end for row in runs if (end := plan_end(row))), None)
            failed = any(map(has_failed, runs))
            found.append(ArmState(arm, last, goal, best.n if best else 0, len(runs), failed, best))
        return found

    @cached_property
    def seed_counts_differ(self) -> bool:
        """Whether the arms' means are over different numbers of seeds."""
        return len({state.seeds for state in self.states if state.seeds}) > 1

    # Differences from the baseline

    @cached_property
    def differences(self) -> list[PairedDifference]:
        """Comparisons with the baseline after the last phases, or after the last shared phase."""
        return [found for found in paired_differences(self.rows, self.baseline) if found.n]

    @cached_property
    def equal_compute_differences(self) -> list[PairedDifference]:
        """Comparisons within the baseline's training compute; empty if the compute is not recorded."""
        return equal_compute_differences(self.rows, self.baseline)

    @cached_property
    def final_differences(self) -> list[PairedDifference]:
        """Comparisons of final results with the baseline, the largest mean difference first."""
        goals = {state.arm: state.goal for state in self.states if state.finished}
        found = [
            difference
            for difference in self.differences
            if goals.get(difference.arm) == difference.phase and goals.get(self.baseline) == difference.baseline_phase
        ]
        return sorted(found, key=lambda difference: -(difference.mean or 0.0))

    # Outcomes of finished runs

    @cached_property
    def budgets(self) -> list[int]:
        """MACs budgets, ascending: quartiles of the baseline's subnets."""
        return macs_budgets(self.runs(self.baseline))

    @cached_property
    def measures(self) -> list[Measure]:
        """The measures for comparing finished runs."""
        return measures(self.budgets, any(map(self.has_exits, self.arms)))

    @cached_property
    def search_measures(self) -> list[Measure]:
        """The measures for comparing searched runs; empty without a search."""
        return search_measures(self.rows)

    @cached_property
    def outcomes(self) -> dict[tuple[str, Any], dict[str, float]]:
        """(arm, seed) -> measure -> value (%), for finished runs."""
        return {
            (row["arm"], row.get("seed")): {**outcomes(row, self.budgets), **search_outcomes(row)}
            for row in self.rows
            if is_finished(row)
        }

    def outcome(self, arm: str, measure: Measure) -> Spread | None:
        """A measure over the arm's finished runs."""
        return spread(values.get(measure.key) for (name, _), values in self.outcomes.items() if name == arm)

    def outcome_difference(self, arm: str, measure: Measure) -> PairedDifference:
        """The arm minus the baseline in a measure, for the seeds with finished runs of both."""
        by_seed = {
            seed: values[measure.key] - base[measure.key]
            for (name, seed), values in self.outcomes.items()
            if name == arm and measure.key in values
            if measure.key in (base := self.outcomes.get((self.baseline, seed), {}))
        }
        return PairedDifference(by_seed=by_seed, arm=arm)

    def has_exits(self, arm: str) -> bool:
        """Whether the arm has measured several exits after its last step."""
        return any(len(final_entry(row).get("exits") or []) > 1 for row in self.runs(arm))

    @cached_property
    def statements(self) -> list[Statement]:
        """The paper's statements for which the study has arms."""
        return check_statements(self.rows, self.study["recipes"])

    @cached_property
    def compositions(self) -> dict[str, dict[str, str]]:
        """Arm -> part -> plugin or setting."""
        return compositions(self.rows, self.study["recipes"])

    # Subnets

    def subnets(self, arm: str) -> list[Row]:
        """Subnets measured in the arm's last phase, of all seeds."""
        last = self.last_phase(arm)
        entries = [entry for row in self.runs(arm) for entry in phase_entries(row) if entry["name"] == last]
        return [subnet for entry in entries for subnet in subnets_of(entry)]

    @cached_property
    def costs(self) -> list[str]:
        """The costs that at least one subnet of a last phase has."""
        subnets = [subnet for arm in self.arms for subnet in self.subnets(arm)]
        return [cost for cost in COSTS if any(number(subnet.get(cost)) is not None for subnet in subnets)]

    @cached_property
    def correlations(self) -> list[RankCorrelation]:
        """Pairs of arms with the same last phase that share a subnet; accuracies are means over seeds."""
        means = {arm: self._accuracy_by_subnet(arm) for arm in self.arms}
        found = []
        for a, b in combinations(self.arms, 2):
            shared = [key for key in means[a] if key in means[b]]
            if self.last_phase(a) == self.last_phase(b) and shared:
                rho = spearman([means[a][k] for k in shared], [means[b][k] for k in shared])
                # with two points, rho is always 1 or -1
                found.append(RankCorrelation(a, b, number(rho) if len(shared) > 2 else None, len(shared)))
        return found

    def _accuracy_by_subnet(self, arm: str) -> dict[str, float]:
        values: dict[str, list[Any]] = {}
        for subnet in self.subnets(arm):
            values.setdefault(subnet_key(subnet), []).append(subnet.get("top1"))
        spreads = {key: spread(listed) for key, listed in values.items()}
        return {key: found.mean for key, found in spreads.items() if found}

    # Exits

    @cached_property
    def exits(self) -> dict[str, tuple[str | None, dict[int, Spread]]]:
        """Arm -> (phase, height -> accuracy), for arms with at least two exits.

        If any arm has measured the exits of its maximal network, these are used, after its last phase. Otherwise each
        exit is represented by the best subnet on validation that ends there, after the phase with the most measured
        exits (the latest one in a tie).
        """
        for find in (self._measured_exits, self._best_subnets_by_exit):
            found = {arm: exits for arm in self.arms if len((exits := find(arm))[1]) > 1}
            if found:
                return found
        return {}

    @cached_property
    def exits_are_measured(self) -> bool:
        """Whether `exits` are those of the maximal networks instead of the best subnets that end there."""
        return any(len(self._measured_exits(arm)[1]) > 1 for arm in self.arms)

    def exits_after(self, arm: str, phase: str | None) -> dict[int, Spread]:
        """Height -> accuracy of each exit of the maximal network after a phase."""
        return _spread_by_height(_measured_exits(row, phase) for row in self.runs(arm))

    def _measured_exits(self, arm: str) -> tuple[str | None, dict[int, Spread]]:
        last = self.last_phase(arm)
        return last, self.exits_after(arm, last)

    def _best_subnets_by_exit(self, arm: str) -> tuple[str | None, dict[int, Spread]]:
        best: tuple[str | None, dict[int, Spread]] = (None, {})
        entries = [entry for row in self.runs(arm) for entry in phase_entries(row)]
        for phase in dict.fromkeys(entry["name"] for entry in entries):
            found = _spread_by_height(_best_by_height(entry) for entry in entries if entry["name"] == phase)
            if len(found) >= len(best[1]):
                best = (phase, found)
        return best

    # Costs and missing results

    def total(self, arm: str, key: str, finished: bool = False) -> Spread | None:
        """The sum of a number over a run's phases (or the row's own number, if no phase has it), over seeds.

        Args:
            arm: The arm.
            key: The number.
            finished: Whether to include only runs that have finished their plan.
        """
        totals = []
        for row in self.runs(arm):
            if finished and not is_finished(row):
                continue
            values = [number(entry.get(key)) for entry in phase_entries(row)]
            known = [value for value in values if value is not None]
            totals.append(math.fsum(known) if known else row.get(key))
        return spread(totals)

    def peak(self, arm: str, key: str) -> Spread | None:
        """The maximum of a number over the arm's phases (or the row's own number), over seeds."""
        peaks = []
        for row in self.runs(arm):
            values = [number(part.get(key)) for part in [*phase_entries(row), row]]
            peaks.append(max((value for value in values if value is not None), default=None))
        return spread(peaks)

    @cached_property
    def notes(self) -> list[str]:
        """Missing results, one sentence each: arms that failed, did not start, or are not finished."""
        notes = [
            f"{row['arm']}, seed {row.get('seed')}, failed: {row['error']}" for row in self.rows if row.get("error")
        ]
        notes += [
            f"The search of {row['arm']}, seed {row.get('seed')}, failed: {error}"
            for row in self.rows
            if (error := search_error(row))
        ]
        for state in self.states:
            if state.phase is None:
                failed = any(row.get("error") for row in self.runs(state.arm))
                notes += [] if failed else [f"{state.arm} has no finished phase."]
            elif state.best is None:
                notes.append(f"{state.arm} has no accuracy for its last phase, {state.phase}.")
            elif not state.finished:
                goal = f", not {state.goal}" if state.goal else ""
                notes.append(f"{state.arm} is not finished: its last phase is {state.phase}{goal}.")
            elif state.seeds < state.runs:
                notes.append(f"{state.arm} has finished {state.phase} for {state.seeds} of {state.runs} seeds.")
        return notes


def _spread_by_height(runs: Iterable[Mapping[int, float]]) -> dict[int, Spread]:
    """The spreads over seeds of accuracies by height; each run is one mapping."""
    listed = list(runs)
    heights = sorted({height for found in listed for height in found})
    return {height: s for height in heights if (s := spread(found.get(height) for found in listed))}


def _best_by_height(entry: Row) -> dict[int, float]:
    best: dict[int, tuple[float, float]] = {}
    for subnet in subnets_of(entry):
        height: Any = (subnet.get("arch") or {}).get("height")
        validation, top1 = number(subnet.get("val_top1")), number(subnet.get("top1"))
        if not isinstance(height, int) or subnet.get("ensemble") or validation is None or top1 is None:
            continue
        if height not in best or validation > best[height][0]:
            best[height] = (validation, top1)
    return {height: top1 for height, (_, top1) in best.items()}


def _measured_exits(row: Row, phase: str | None) -> dict[int, float]:
    """Height -> accuracy, as measured after one of a run's phases."""
    exits = [e for entry in phase_entries(row) if entry["name"] == phase for e in entry.get("exits") or []]
    accuracies = {entry.get("height"): number(entry.get("top1")) for entry in exits}
    return {height: top1 for height, top1 in accuracies.items() if isinstance(height, int) and top1 is not None}
