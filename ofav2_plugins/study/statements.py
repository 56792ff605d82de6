"""The paper's five statements about OFAv2 (arXiv 2302.01888, experiments), checked against a study's results.

Arms are recognised by their supernet and teacher. Two arms are compared if their recipes are otherwise equal, by the
test accuracy of the subnet best on validation, seed by seed. A claim is decided by direction alone, because the
size of an effect depends on the dataset and the training.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import UserError
from ..models.spec import VARIANTS, resolve_spec
from .comparison import Difference
from .rows import Row, accuracies, is_finished, phase_order, plan_end, plan_of

CONFIRMED, CONTRADICTED, UNDECIDED = "confirmed", "contradicted", "undecided"

MARGIN = 1.0
"""Points of accuracy that count as "about nothing": the paper's values are read from a chart to within +-0.5."""

PUBLISHED = {
    "fixed": {"SE_B": 39.8, "SE_D": 40.9, "SE_P": 37.9, "SE_DP": 39.0,
              "EE_B": 48.8, "EE_D": 48.4, "EE_P": 44.0, "EE_DP": 44.6},
    "progressive": {"SE_B": 42.2, "SE_D": 42.9, "SE_P": 36.1, "SE_DP": 36.5,
                    "EE_B": 51.5, "EE_D": 51.8, "EE_P": 46.0, "EE_DP": 46.2},
}  # fmt: skip
"""Teacher -> supernet -> top-1 (%) of the best subnet after the last phase: Tiny ImageNet, width multiplier 1."""

PUBLISHED_AFTER_FULL = -10.0
"""Early exits versus a single exit after the full phase: about 18 versus 28 %."""


@dataclass(frozen=True)
class Finding:
    """One comparison of two arms.

    Args:
        arm: The arm that should differ.
        other: The arm that it is compared with.
        phase: The phase after which both are compared.
        difference: The arm minus the other, seed by seed, in points of accuracy.
        published: The paper's difference; None if the paper does not give one.
        verdict: "confirmed", "contradicted" or "undecided".
    """

    arm: str
    other: str
    phase: str
    difference: Difference
    published: float | None
    verdict: str


@dataclass(frozen=True)
class Claim:
    """A part of a statement, decided by comparisons of one kind."""

    text: str
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> str:
        """Contradicted if any comparison contradicts the claim, confirmed if all confirm it, otherwise undecided."""
        return _combine(finding.verdict for finding in self.findings)


@dataclass(frozen=True)
class Statement:
    """One of the paper's statements, with the claims that the study has arms for."""

    text: str
    claims: tuple[Claim, ...]

    @property
    def verdict(self) -> str:
        """Contradicted if any claim is contradicted, confirmed if all are confirmed, otherwise undecided."""
        return _combine(claim.verdict for claim in self.claims)


def _combine(verdicts: Iterable[str]) -> str:
    listed = list(verdicts)
    if CONTRADICTED in listed:
        return CONTRADICTED
    return CONFIRMED if all(verdict == CONFIRMED for verdict in listed) else UNDECIDED


_Judge = Callable[[Difference], str]


def _gain(difference: Difference) -> str:
    return {1: CONFIRMED, -1: CONTRADICTED}.get(difference.direction, UNDECIDED)


def _loss(difference: Difference) -> str:
    return {1: CONTRADICTED, -1: CONFIRMED}.get(difference.direction, UNDECIDED)


def _about_nothing(difference: Difference) -> str:
    if difference.interval is None:
        return UNDECIDED
    low, high = difference.interval
    if -MARGIN <= low and high <= MARGIN:
        return CONFIRMED
    return CONTRADICTED if low > MARGIN or high < -MARGIN else UNDECIDED


@dataclass(frozen=True)
class _Arm:
    """An arm of one of the paper's eight supernets with one of its two teachers."""

    name: str
    variant: str
    teacher: str
    recipe: str
    runs: Mapping[Any, Row]

    @property
    def parallel(self) -> bool:
        return "P" in self.variant.partition("_")[2]


def check_statements(rows: Sequence[Row], recipes: Mapping[str, Mapping[str, Any]]) -> list[Statement]:
    """Check the statements that the study has arms for.

    Args:
        rows: The runs.
        recipes: Arm -> recipe.
    """
    arms = _paper_arms(rows, recipes)
    found = [
        ("Early exits give the gain.",
         [("Early exits raise the accuracy", _at_end(_pairs(arms, "SE", "EE"), _gain))]),
        ("Dense skips add 0.7 to 1.1 points to single-exit networks and about nothing to early-exit networks.",
         [("Dense skips raise the accuracy of single-exit networks", _at_end(_pairs(arms, "SE_B", "SE_D"), _gain)),
          (f"Dense skips change the accuracy of early-exit networks by less than {MARGIN:g} point",
           _at_end(_pairs(arms, "EE_B", "EE_D"), _about_nothing))]),
        ("The progressive teacher adds 1.6 to 3.4 points, except to single-exit networks with parallel blocks.",
         [("The progressive teacher raises the accuracy", _at_end(_teacher_pairs(arms, exception=False), _gain)),
          ("The progressive teacher lowers the accuracy of single-exit networks with parallel blocks",
           _at_end(_teacher_pairs(arms, exception=True), _loss))]),
        ("Parallel blocks do not pay.",
         [("Parallel blocks lower the accuracy",
           _at_end([*_pairs(arms, "B", "P"), *_pairs(arms, "D", "DP")], _loss))]),
        ("Early exits lag after the full phase and overtake from Elastic Kernel on.",
         [("Early exits lag after the full phase", _after_full(arms)),
          ("Early exits lead after every phase from Elastic Kernel on", _from_kernel_on(arms))]),
    ]  # fmt: skip
    statements = [
        Statement(text, tuple(Claim(claim, tuple(findings)) for claim, findings in claims if findings))
        for text, claims in found
    ]
    return [statement for statement in statements if statement.claims]


def _paper_arms(rows: Sequence[Row], recipes: Mapping[str, Mapping[str, Any]]) -> list[_Arm]:
    runs: dict[str, dict[Any, Row]] = {}
    for row in rows:
        runs.setdefault(row["arm"], {})[row.get("seed")] = row
    found = []
    for name, by_seed in runs.items():
        row, recipe = next(iter(by_seed.values())), recipes.get(name) or {}
        variant, teacher = _variant(row.get("supernet")), row.get("teacher", recipe.get("teacher"))
        if variant and teacher in ("fixed", "progressive"):
            others = {key: value for key, value in recipe.items() if key not in ("teacher", "description")}
            found.append(_Arm(name, variant, teacher, json.dumps(others, sort_keys=True), by_seed))
    return found


def _variant(supernet: Any) -> str | None:
    """The paper's name of a supernet, including supernets given as compositions."""
    try:
        spec = resolve_spec(supernet)
    except (UserError, TypeError, AttributeError):
        return None
    return next((name for name, variant in VARIANTS.items() if spec == variant), None)


def _pairs(arms: Sequence[_Arm], without: str, with_it: str) -> list[tuple[_Arm, _Arm]]:
    """Pairs (with, without) whose supernets differ in exactly this part of the name."""
    return [
        (arm, other)
        for arm in arms
        for other in arms
        if _swapped(arm.variant, with_it, without) == other.variant
        and (arm.teacher, arm.recipe) == (other.teacher, other.recipe)
    ]


def _swapped(variant: str, part: str, replacement: str) -> str | None:
    exits, _, blocks = variant.partition("_")
    if part == variant:
        return replacement
    if part == exits:
        return f"{replacement}_{blocks}"
    return f"{exits}_{replacement}" if part == blocks else None


def _teacher_pairs(arms: Sequence[_Arm], exception: bool) -> list[tuple[_Arm, _Arm]]:
    return [
        (arm, other)
        for arm in arms
        for other in arms
        if (arm.teacher, other.teacher) == ("progressive", "fixed")
        and (arm.variant, arm.recipe) == (other.variant, other.recipe)
        and (arm.parallel and arm.variant.startswith("SE")) == exception
    ]


def _at_end(pairs: Iterable[tuple[_Arm, _Arm]], judge: _Judge) -> list[Finding]:
    """Compare the final accuracies of finished runs."""
    found = []
    for arm, other in pairs:
        both = [s for s in arm.runs if s in other.runs and is_finished(arm.runs[s]) and is_finished(other.runs[s])]
        if both:
            difference = Difference({s: _final_top1(arm.runs[s]) - _final_top1(other.runs[s]) for s in both})
            published = round(PUBLISHED[arm.teacher][arm.variant] - PUBLISHED[other.teacher][other.variant], 1)
            phase = str(plan_end(arm.runs[both[0]]))
            found.append(Finding(arm.name, other.name, phase, difference, published, judge(difference)))
    return found


def _final_top1(row: Row) -> float:
    return accuracies(row)[str(plan_end(row))]


def _after_full(arms: Sequence[_Arm]) -> list[Finding]:
    """Compare early exits with a single exit after the full phase, which uses no teacher."""
    teachers = {arm.name: arm.teacher for arm in arms}
    pairs = _pairs([replace(arm, teacher="") for arm in arms], "SE", "EE")
    found: dict[tuple[str, str], Finding] = {}
    for arm, other in sorted(pairs, key=lambda pair: teachers[pair[0].name] != teachers[pair[1].name]):
        difference = _after(arm, other, "full")
        known = found.get((arm.variant, arm.recipe))
        if difference and (known is None or difference.n > known.difference.n):
            found[arm.variant, arm.recipe] = Finding(
                arm.name, other.name, "full", difference, PUBLISHED_AFTER_FULL, _loss(difference)
            )
    return list(found.values())


def _from_kernel_on(arms: Sequence[_Arm]) -> list[Finding]:
    """Compare early exits with a single exit after the decisive phase, among the shared phases from `kernel` on.

    This is the first phase that contradicts a lead, else the first undecided one, else the one with the smallest lead.
    """
    found = []
    for arm, other in _pairs(arms, "SE", "EE"):
        order = phase_order([plan_of(row) for each in (arm, other) for row in each.runs.values()])
        phases = order[order.index("kernel") :] if "kernel" in order else []
        compared = [
            Finding(arm.name, other.name, phase, difference, None, _gain(difference))
            for phase in phases
            if (difference := _after(arm, other, phase))
        ]
        for verdict in (CONTRADICTED, UNDECIDED):
            deciding = next((finding for finding in compared if finding.verdict == verdict), None)
            if deciding:
                break
        else:
            deciding = min(compared, key=lambda finding: finding.difference.mean or 0.0, default=None)
        found += [deciding] if deciding else []
    return found


def _after(arm: _Arm, other: _Arm, phase: str) -> Difference | None:
    """The difference after a phase, for the seeds that have it in both arms."""
    pairs = {s: (accuracies(row), accuracies(other.runs[s])) for s, row in arm.runs.items() if s in other.runs}
    by_seed = {s: a[phase] - b[phase] for s, (a, b) in pairs.items() if phase in a and phase in b}
    return Difference(by_seed) if by_seed else None
