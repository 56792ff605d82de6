"""The result of a study in a few sentences, based on the intervals, never on the means alone."""

from __future__ import annotations

from collections.abc import Sequence

from ..study.comparison import Difference, PairedDifference
from ..study.stats import MIN_SEEDS, Spread
from ..study.summary import Summary

_LISTED = 6


def headline(summary: Summary) -> str:
    """The result in one sentence."""
    finished = [state for state in summary.states if state.finished and state.best]
    best = {state.arm: state.best for state in finished if state.best}
    if not finished:
        return "No arm has finished yet, so nothing can be compared."
    if len(summary.arms) == 1:
        return f"{finished[0].arm} ends at {_accuracy(best[finished[0].arm])} top-1 accuracy."
    if len(finished) == 1:
        arm = finished[0].arm
        return (
            f"Only {arm} has finished so far ({_accuracy(best[arm])} top-1 accuracy), so nothing can be compared yet."
        )
    if summary.baseline not in best:
        return f"The baseline {summary.baseline} has not finished, so final differences cannot be computed yet."
    base = f"the baseline {summary.baseline}"
    found = summary.final_differences
    if not found:
        return f"No finished arm shares a seed with {base}, so nothing can be compared."
    above = [each for each in found if each.direction > 0]
    judged = [each for each in found if each.interval]
    if len(above) == 1:
        return f"{above[0].arm} ends above {base}, by {_with_interval(above[0])}."
    if above:
        arms = _joined([each.arm for each in above])
        return f"{arms} end above {base}; the largest difference is that of {above[0].arm}, {_with_interval(above[0])}."
    if not judged:
        return f"Undecided: no arm shares {MIN_SEEDS} seeds with {base}, so no difference has an interval."
    if all(each.direction < 0 for each in judged):
        return f"No arm ends above {base}: {_joined([each.arm for each in judged])} {_ends(judged)} below it."
    return f"Undecided: no arm has a 95 % interval above zero for its difference from {base}."


def details(summary: Summary) -> list[str]:
    """Sentences that explain the headline: other arms, missing intervals, numbers of seeds."""
    found = summary.final_differences
    sentences = []
    if below := [each for each in found if each.direction < 0]:
        sentences.append(f"Below {summary.baseline}: {'; '.join(f'{d.arm}, {_with_interval(d)}' for d in below)}.")
    if undecided := [each for each in found if each.interval and not each.direction]:
        texts = [f"{each.arm}, {_with_interval(each)}" for each in undecided]
        sentences.append(f"Undecided, because the interval includes zero: {'; '.join(texts)}.")
    if few := [each for each in found if not each.interval]:
        texts = [f"{each.arm} {_runs(each)}" for each in few[:_LISTED]]
        more = f"; and {len(few) - _LISTED} more arms" if len(few) > _LISTED else ""
        sentences.append(
            f"With fewer than {MIN_SEEDS} shared seeds there is no interval, so a difference may be due to chance. "
            f"Single runs minus {summary.baseline}, best subnet, in points: {'; '.join(texts)}{more}."
        )
    judged = [each for each in found if each.interval]
    if any(each.direction > 0 for each in judged) and len(judged) > 1:
        sentences.append(
            f"{len(judged)} arms were compared, each at 95 %; the largest of several differences "
            "tends to be overestimated."
        )
    if summary.seed_counts_differ:
        counts = sorted({state.seeds for state in summary.states if state.seeds})
        sentences.append(
            f"Arms have between {counts[0]} and {counts[-1]} seeds: compare them by the differences, which are paired "
            "by seed, not by their means."
        )
    return sentences


def _accuracy(best: Spread) -> str:
    return f"{best.mean:.2f} %" + (f" (mean of {best.n} seeds)" if best.n > 1 else "")


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _with_interval(difference: Difference) -> str:
    low, high = difference.interval or (0.0, 0.0)
    return (
        f"{_signed(difference.mean or 0.0)} points of top-1 accuracy (95 % interval {_signed(low)} to {_signed(high)}, "
        f"{difference.n} seeds)"
    )


def _runs(difference: Difference) -> str:
    return ", ".join(map(_signed, difference.by_seed.values()))


def _joined(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def _ends(differences: Sequence[PairedDifference]) -> str:
    return "ends" if len(differences) == 1 else "end"
