"""Predictor `gbm`: gradient-boosted trees (NATv2, arXiv 2307.00960, predicts with LightGBM)."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, Literal

import numpy as np

from ..plugin import PluginError
from .base import Predictor

EXTRA = "install it with: pip install 'ofav2-plugins[search]'"


class GradientBoosting(Predictor):
    """Gradient-boosted trees, by LightGBM or scikit-learn.

    Args:
        library: "lightgbm" or "scikit-learn"; results of the two differ.
        trees: Number of trees.
        leaves: Maximum number of leaves of a tree.
        learning_rate: Weight of each tree.
        min_leaf: Minimum number of architectures in a leaf.
        seed: Random seed.
    """

    def __init__(
        self,
        library: Literal["lightgbm", "scikit-learn"] = "lightgbm",
        trees: int = 300,
        leaves: int = 15,
        learning_rate: float = 0.05,
        min_leaf: int = 5,
        seed: int = 0,
    ):
        for name, value, least in (("trees", trees, 1), ("leaves", leaves, 2), ("min_leaf", min_leaf, 1)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, but got {value}")
        if not 0 < learning_rate <= 1:
            raise ValueError(f"learning_rate must be in (0, 1], but got {learning_rate}")
        self.library, self.trees, self.leaves = library, trees, leaves
        self.learning_rate, self.min_leaf, self.seed = learning_rate, min_leaf, seed
        self._model: Any = None

    def fit(self, codes: np.ndarray, scores: np.ndarray) -> None:
        codes, scores = np.asarray(codes, dtype=np.float64), np.asarray(scores, dtype=np.float64)
        if self.library == "lightgbm":
            lightgbm = _library("lightgbm", "lightgbm")
            settings = {
                "objective": "regression",
                "num_leaves": self.leaves,
                "learning_rate": self.learning_rate,
                "min_data_in_leaf": self.min_leaf,
                "min_data_in_bin": 1,
                "seed": self.seed,
                "deterministic": True,
                "force_row_wise": True,
                "num_threads": 1,  # the data set is small; more threads would only wait for each other
                "verbose": -1,
            }
            self._model = lightgbm.train(settings, lightgbm.Dataset(codes, scores), self.trees)
        else:
            ensemble = _library("sklearn.ensemble", "scikit-learn")
            self._model = ensemble.HistGradientBoostingRegressor(
                max_iter=self.trees,
                max_leaf_nodes=self.leaves,
                learning_rate=self.learning_rate,
                min_samples_leaf=self.min_leaf,
                early_stopping=False,
                random_state=self.seed,
            ).fit(codes, scores)

    def predict(self, codes: np.ndarray) -> np.ndarray:
        return np.asarray(self._model.predict(np.asarray(codes, dtype=np.float64)))


def _library(module: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise PluginError(
            f"plugin 'gbm' of ofav2.predictors needs {package}, which cannot be imported ({error}); {EXTRA}, "
            "or choose the predictor mlp, which needs no extra"
        ) from error
