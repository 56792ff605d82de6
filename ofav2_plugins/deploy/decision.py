"""Choice of a network's output: its last exit, an ensemble of exits, or the first confident exit.

All decisions use the validation images; accuracies on the test images are only reported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import registry
from ..errors import UserError
from ..exits.weights import exit_weights
from .bundle_config import BundleExit, Output
from .calibration import calibration_error, fit_temperature, probabilities
from .early_exit import Answers, ExitPolicy, run_chain
from .exit_choice import ExitCosts, OperatingPoint, choose_point, ensembles, operating_points
from .segments import exit_costs
from .source import Source


@dataclass(frozen=True)
class DecisionOptions:
    """Options for the choice of a network's output.

    Args:
        output: "last", "ensemble" or "early".
        rule: The confidence of an early exit: a plugin of `ofav2.exit_rules`.
        target_top1: For early exits: minimum accuracy in percent on the validation images; default: the last exit's.
        target_macs: For early exits: maximum mean multiply-accumulates per image.

    Raises:
        UserError: A target is given without early exits, or is out of range.
    """

    output: Output = "last"
    rule: Any = "max_prob"
    target_top1: float | None = None
    target_macs: float | None = None

    def __post_init__(self) -> None:
        registry.load(registry.EXIT_RULES, self.rule)
        if self.output != "early" and (self.target_top1, self.target_macs) != (None, None):
            raise UserError(f"--target-top1 and --target-macs need --exits early, but got --exits {self.output}")
        if self.target_top1 is not None and not 0 <= self.target_top1 <= 100:
            raise UserError(f"--target-top1 must be between 0 and 100 %, but got {self.target_top1}")
        if self.target_macs is not None and not 0 < self.target_macs < math.inf:
            raise UserError(f"--target-macs must be a positive number, but got {self.target_macs}")


@dataclass(frozen=True)
class Decision:
    """The chosen output of a network.

    Args:
        numbers: The kept exits, by the stage that they follow.
        exits: The exits at which it can answer.
        ensemble: Weight of each kept exit by its number, if their logits are summed.
        macs: Multiply-accumulates of one image, the mean over the validation images for early exits.
        figures: The measurements behind the decision, and the accuracy on the test images.
    """

    numbers: list[int]
    exits: list[BundleExit]
    ensemble: dict[int, float] | None
    macs: float
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Measured:
    """The logits of every exit on validation and test images, with their labels."""

    numbers: list[int]
    val_logits: Sequence[np.ndarray]
    val_labels: np.ndarray
    test_logits: Sequence[np.ndarray]
    test_labels: np.ndarray
    costs: ExitCosts


def decide(source: Source, options: DecisionOptions) -> Decision:
    """Choose the output of the network of `source`.

    Raises:
        UserError: A target that the exits do not reach.
    """
    measured = _Measured(
        [int(number) for number in source.net.exits],
        source.validation_logits(),
        source.data.validation.labels,
        source.test_logits(),
        source.data.test.labels,
        exit_costs(source.net, source.resolution),
    )
    if options.output == "early":
        return _early(measured, options)
    if options.output == "ensemble":
        return _ensemble(measured, source.run.config.recipe.exit_weights.output)
    return _last(measured)


def _last(measured: _Measured) -> Decision:
    macs = measured.costs.ending_at([len(measured.numbers) - 1])[-1]
    temperature = fit_temperature(measured.val_logits[-1], measured.val_labels)
    exit = BundleExit(number=measured.numbers[-1], temperature=temperature, threshold=None, macs=macs)
    figures = _accuracy(measured.val_logits[-1], measured.val_labels, temperature, "val_")
    figures |= _accuracy(measured.test_logits[-1], measured.test_labels, temperature)
    return Decision([exit.number], [exit], None, macs, figures)


def _ensemble(measured: _Measured, weights: Any) -> Decision:
    """Exit pruning (AEP): the best ensemble of every set of exits."""
    numbers = measured.numbers
    shares = exit_weights(weights, len(numbers)) if _fits(weights, len(numbers)) else exit_weights("UNIF", len(numbers))
    found = ensembles(measured.val_logits, measured.val_labels, shares, measured.costs)
    best = found[0]

    def summed(logits: Sequence[np.ndarray]) -> np.ndarray:
        weighted = [weight * logits[e] for weight, e in zip(best.weights, best.exits, strict=True)]
        total: np.ndarray = np.sum(weighted, axis=0)
        return total

    temperature = fit_temperature(summed(measured.val_logits), measured.val_labels)
    exit = BundleExit(number=numbers[best.exits[-1]], temperature=temperature, threshold=None, macs=best.macs)
    everything = next(ensemble for ensemble in found if len(ensemble.exits) == len(numbers))
    figures: dict[str, Any] = _accuracy(summed(measured.val_logits), measured.val_labels, temperature, "val_")
    figures |= _accuracy(summed(measured.test_logits), measured.test_labels, temperature)
    figures["last_exit"] = {
        "val_top1": top1(measured.val_logits[-1], measured.val_labels),
        "top1": top1(measured.test_logits[-1], measured.test_labels),
    }
    figures["all_exits"] = {"val_top1": everything.val_top1, "macs": everything.macs}
    figures["sets_of_exits"] = [
        {"exits": [numbers[e] for e in ensemble.exits], "val_top1": ensemble.val_top1, "macs": ensemble.macs}
        for ensemble in found
    ]
    kept = [numbers[e] for e in best.exits]
    return Decision(kept, [exit], dict(zip(kept, best.weights, strict=True)), best.macs, figures)


def _fits(weights: Any, n_exits: int) -> bool:
    """Whether the recipe's weights fit this number of exits; explicit lists are for all exits of the supernet."""
    return isinstance(weights, str) or len(weights) == n_exits


def _early(measured: _Measured, options: DecisionOptions) -> Decision:
    """Early exits: temperatures, then the set of exits and the threshold that reach the target."""
    rule = registry.load(registry.EXIT_RULES, options.rule)
    temperatures = [fit_temperature(logits, measured.val_labels) for logits in measured.val_logits]
    front = operating_points(measured.val_logits, measured.val_labels, temperatures, measured.costs, rule)
    last_top1 = top1(measured.val_logits[-1], measured.val_labels)
    target = last_top1 if (options.target_top1, options.target_macs) == (None, None) else options.target_top1
    point = choose_point(front, target, options.target_macs)
    macs = measured.costs.ending_at(point.exits)
    exits = [
        BundleExit(
            number=measured.numbers[e],
            temperature=temperatures[e],
            threshold=point.threshold if i < len(point.exits) - 1 else None,
            macs=cost,
        )
        for i, (e, cost) in enumerate(zip(point.exits, macs, strict=True))
    ]
    thresholds = (point.threshold,) * (len(exits) - 1)
    policy = ExitPolicy(rule, tuple(exit.temperature for exit in exits), thresholds)
    test = simulate([measured.test_logits[e] for e in point.exits], policy)
    shares = np.bincount(test.exits, minlength=len(exits)) / len(test.exits)
    figures = {
        "val_top1": point.val_top1,
        "top1": 100 * float((test.probabilities.argmax(axis=1) == measured.test_labels).mean()),
        "ece": calibration_error(test.probabilities, measured.test_labels),
        "val_shares": list(point.shares),
        "shares": shares.tolist(),
        "macs": float(shares @ np.array(macs)),
        "full_network": {
            "val_top1": last_top1,
            "top1": top1(measured.test_logits[-1], measured.test_labels),
            "macs": measured.costs.ending_at([len(measured.numbers) - 1])[-1],
        },
        "exits": [
            {"number": number, **_accuracy(logits, measured.test_labels, temperature)}
            for number, logits, temperature in zip(measured.numbers, measured.test_logits, temperatures, strict=True)
        ],
        "front": [_point(point, measured.numbers) for point in front],
    }
    return Decision([exit.number for exit in exits], exits, None, point.macs, figures)


def _point(point: OperatingPoint, numbers: Sequence[int]) -> dict[str, Any]:
    exits = [numbers[e] for e in point.exits]
    return {"exits": exits, "threshold": point.threshold, "val_top1": point.val_top1, "macs": point.macs}


def simulate(logits: Sequence[np.ndarray], policy: ExitPolicy) -> Answers:
    """The answers of a chain whose exits have known logits [N, n_classes], by the code that runs real chains."""
    last = len(logits) - 1
    segments = [
        lambda rows, i=i, known=known: (known[rows],) if i == last else (rows, known[rows])
        for i, known in enumerate(logits)
    ]
    return run_chain(segments, policy, np.arange(len(logits[0])))


def top1(logits: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy in percent of logits [N, n_classes] on labels [N]."""
    return 100 * float((logits.argmax(axis=1) == labels).mean())


def _accuracy(logits: np.ndarray, labels: np.ndarray, temperature: float, prefix: str = "") -> dict[str, float]:
    """Accuracy in percent, and the calibration error before and after temperature scaling."""
    return {
        f"{prefix}top1": top1(logits, labels),
        f"{prefix}ece": calibration_error(probabilities(logits, temperature), labels),
        f"{prefix}ece_uncalibrated": calibration_error(probabilities(logits), labels),
    }
