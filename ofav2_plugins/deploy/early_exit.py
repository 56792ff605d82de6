"""Early-exit inference: a chain of segments; each sample runs only as many as it needs. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import registry
from ..exit_rules.base import ExitRule
from .bundle_config import BundleConfig
from .calibration import probabilities

Segment = Callable[[Any], Sequence[Any]]
"""Runs one segment: its input [N, ...] to (features [N, ...], logits [N, n_classes]), the last one to (logits,).

All arrays are numpy arrays, or all are torch tensors.
"""


@dataclass(frozen=True)
class ExitPolicy:
    """The conditions under which a sample leaves the chain.

    Args:
        rule: The confidence of an exit.
        temperatures: One per exit; its logits are divided by it.
        thresholds: One per exit but the last: a sample leaves if its confidence is at least this value.
    """

    rule: ExitRule
    temperatures: tuple[float, ...]
    thresholds: tuple[float, ...]

    @classmethod
    def of(cls, config: BundleConfig) -> ExitPolicy:
        """The policy of a bundle."""
        rule = registry.load(registry.EXIT_RULES, config.exit_rule or "max_prob")
        thresholds = tuple(np.inf if exit.threshold is None else exit.threshold for exit in config.exits[:-1])
        return cls(rule, tuple(exit.temperature for exit in config.exits), thresholds)


@dataclass(frozen=True)
class Answers:
    """The answers of a chain.

    Args:
        logits: [N, n_classes], of the exit at which each sample left.
        exits: [N], the position of that exit in the chain, from 0.
        probabilities: [N, n_classes], the logits at the exit's temperature.
    """

    logits: np.ndarray
    exits: np.ndarray
    probabilities: np.ndarray


def run_chain(segments: Sequence[Segment], policy: ExitPolicy, images: Any) -> Answers:
    """Run images [N, 3, r, r] through a chain; samples that are confident leave the batch at their exit."""
    active = np.arange(len(images))
    history: list[np.ndarray] = []  # class probabilities of the active samples at each exit so far
    finished: list[tuple[np.ndarray, ...]] = []  # samples, their exits, logits and probabilities
    x = images
    for position, segment in enumerate(segments):
        *features, scores = segment(x)
        logits = _numpy(scores)
        history.append(probabilities(logits, policy.temperatures[position]))
        leaves = np.array([True])  # at the last exit, all remaining samples
        if features:
            leaves = policy.rule.confidence(history) >= policy.thresholds[position]
        if leaves.all():
            finished.append((active, np.full(len(active), position), logits, history[-1]))
            break
        [x] = features
        if leaves.any():
            leaving, staying = np.flatnonzero(leaves), np.flatnonzero(~leaves)
            finished.append((active[leaving], np.full(len(leaving), position), logits[leaving], history[-1][leaving]))
            active, history, x = active[staying], [earlier[staying] for earlier in history], x[staying]
    if len(finished) == 1:  # all samples left at one exit and are in order
        _, exits, logits, final = finished[0]
        return Answers(logits, exits, final)
    samples, exits, logits, final = (np.concatenate(parts) for parts in zip(*finished, strict=True))
    order = np.argsort(samples)
    return Answers(logits[order], exits[order], final[order])


def _numpy(array: Any) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.detach().cpu().numpy()
