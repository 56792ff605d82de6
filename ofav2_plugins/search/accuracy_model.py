"""Accuracy prediction: features of an architecture, cross-validation, and the ceiling imposed by measurement noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import kendalltau, spearmanr

from .. import registry
from ..errors import UserError
from ..evaluation.encoding import Encoding
from ..plugin import PluginError
from ..predictors.base import Predictor
from .targets import Costs

FOLDS = 5
CURVE = (0.125, 0.25, 0.5, 1.0)
"""Shares of the samples at which the learning curve is computed."""


class AccuracyModel:
    """A predictor plugin on the features of encoded architectures.

    Args:
        predictor: A plugin of `ofav2.predictors`.
        encoding: The encoding of the searched space.
        costs: Costs whose logarithms are additional features, because accuracy depends on cost.
    """

    def __init__(self, predictor: Any, encoding: Encoding, costs: Costs):
        self._reference, self._encoding, self._costs = predictor, encoding, costs
        self.predictor = self._new()

    def _new(self) -> Predictor:
        predictor: Predictor = registry.load(registry.PREDICTORS, self._reference)
        return predictor

    def features(self, codes: np.ndarray) -> np.ndarray:
        """Features [N, F] of codes [N, G]: the entries, then the logarithms of MACs and parameters."""
        costs = self._costs(codes)
        logs = np.log10(np.stack([costs["macs"], costs["params"]], axis=1).astype(float))
        return np.concatenate([self._encoding.features(codes), logs], axis=1)

    def fit(self, codes: np.ndarray, scores: np.ndarray) -> None:
        """Fit the predictor on all samples."""
        self._call("fit", self.predictor, self.features(codes), scores)

    def predict(self, codes: np.ndarray) -> np.ndarray:
        """Predicted scores [N]."""
        return self._predict(self.predictor, self.features(codes))

    def _predict(self, predictor: Predictor, features: np.ndarray) -> np.ndarray:
        predicted = np.asarray(self._call("predict", predictor, features), dtype=float)
        if predicted.shape != (len(features),) or not np.isfinite(predicted).all():
            where = registry.title(registry.PREDICTORS, predictor.name)
            raise PluginError(
                f"{where} must predict {len(features)} finite scores, but "
                f"got {'an infinite one' if predicted.shape == (len(features),) else list(predicted.shape)}"
            )
        return predicted

    def _call(self, method: str, predictor: Predictor, *args: Any) -> Any:
        with registry.calling(registry.PREDICTORS, predictor.name, method):
            return getattr(predictor, method)(*args)

    def held_out(
        self, codes: np.ndarray, scores: np.ndarray, groups: np.ndarray, seed: int, share: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cross-validated predictions.

        Args:
            codes: Samples [N, G].
            scores: Measured scores [N].
            groups: The group of each sample [N]; a group is never split between the training and the held-out part.
            seed: Seed of the folds.
            share: Train on this share of each training part.

        Returns:
            Indices of the held-out samples, and their predictions.
        """
        features, rng = self.features(codes), np.random.default_rng(seed)
        order = rng.permutation(np.unique(groups))
        places, predictions = [], []
        for fold in np.array_split(order, min(FOLDS, len(order))):
            train = np.setdiff1d(order, fold, assume_unique=True)
            train = train[: max(1, round(share * len(train)))]
            rows, test = np.flatnonzero(np.isin(groups, train)), np.flatnonzero(np.isin(groups, fold))
            predictor = self._new()
            self._call("fit", predictor, features[rows], scores[rows])
            places.append(test)
            predictions.append(self._predict(predictor, features[test]))
        return np.concatenate(places), np.concatenate(predictions)


@dataclass(frozen=True)
class Quality:
    """Quality of a predictor on architectures that it was not fitted on.

    Args:
        kendall_tau: Rank correlation of predicted and measured accuracy.
        kendall_tau_ceiling: Rank correlation of the accuracies on the two halves of the validation images: the limit
            that noise sets.
        spearman: Spearman's rank correlation.
        rmse: Root of the mean squared error, in points.
        curve: The learning curve: (training samples, Kendall tau).
        held_out: Indices of all samples, and their predictions while they were held out.
    """

    kendall_tau: float
    kendall_tau_ceiling: float
    spearman: float
    rmse: float
    curve: tuple[tuple[int, float], ...]
    held_out: tuple[np.ndarray, np.ndarray]


def cross_validate(
    model: AccuracyModel, codes: np.ndarray, scores: np.ndarray, halves: np.ndarray, groups: np.ndarray, seed: int
) -> Quality:
    """The quality of a model on held-out samples.

    Args:
        model: The model; its own fit is not changed.
        codes: Samples [N, G].
        scores: Measured scores [N].
        halves: The accuracies on the two halves of the validation images [N, 2].
        groups: The trunk of each sample [N].
        seed: Seed of the folds.

        Raises:
        UserError: There are fewer than three trunks.
    """
    if len(np.unique(groups)) < 3:
        raise UserError(f"a predictor needs samples of at least three networks, but got {len(np.unique(groups))}")
    curve = []
    for share in CURVE:
        places, predicted = model.held_out(codes, scores, groups, seed, share)
        n = round(share * len(codes) * (1 - 1 / min(FOLDS, len(np.unique(groups)))))
        curve.append((n, rank_correlation(scores[places], predicted)))
    return Quality(
        kendall_tau=curve[-1][1],
        kendall_tau_ceiling=rank_correlation(halves[:, 0], halves[:, 1]),
        spearman=_finite(spearmanr(scores[places], predicted).statistic),
        rmse=float(np.sqrt(np.mean((scores[places] - predicted) ** 2))),
        curve=tuple(curve),
        held_out=(places, predicted),
    )


def rank_correlation(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """Kendall's tau; 0 if one of the arguments is constant."""
    return _finite(kendalltau(first, second).statistic)


def _finite(value: float) -> float:
    return float(value) if math.isfinite(value) else 0.0
