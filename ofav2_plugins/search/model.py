"""The parts of a search that need no measurement: the searched space, costs, limits and fitted predictors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import registry
from ..errors import UserError
from ..evaluation.encoding import Encoding
from ..evaluation.latency_table import LatencyModel, LatencyTable
from ..models.supernet import Supernet
from ..searchers.problem import Metrics, Problem
from ..space import SearchSpace
from .accuracy_model import AccuracyModel, Quality, cross_validate
from .searching import search
from .settings import SearchSettings
from .targets import HEIGHT, RESOLUTION, Costs, searched_space

SHARES = (0.25, 0.5, 1.0)
"""Default budgets, as shares of the largest cost."""


class SearchModel:
    """The search problem of a supernet. The weights of the supernet do not matter.

    Args:
        net: The supernet.
        space: Its space, restricted to the trained values.
        resolutions: Of the images in pixels.
        settings: Settings of the search.
        table: A latency table; without one there is no metric latency_ms.

    Raises:
        UserError: Settings that do not fit the supernet, limits that no architecture satisfies.
    """

    def __init__(
        self,
        net: Supernet,
        space: SearchSpace,
        resolutions: Sequence[int],
        settings: SearchSettings,
        table: LatencyTable | None = None,
    ):
        self.net, self.settings, self.table = net, settings, table
        if "latency_ms" in settings.metrics and table is None:
            raise UserError("latency needs a table: create one with `ofav2 profile` and pass it with --latency TABLE")
        if settings.early_exit and (HEIGHT not in space or len(space.unlocked_values(HEIGHT)) < 2):
            raise UserError("expected_top1 and expected_macs need a supernet with several trained exits")
        self.encoding = Encoding(searched_space(space, resolutions))
        latency = LatencyModel(net, self.encoding, table) if table else None
        if latency is not None:
            for resolution in resolutions:
                latency.prepare(resolution)
        self.costs = Costs(net, self.encoding, latency)
        self.models: dict[str, AccuracyModel] = {}
        self.problem = Problem(self.encoding, settings.objectives, settings.limits, self.costs, self.predicted)
        self._check_expected_macs()
        self._check_plugins()

    def _check_expected_macs(self) -> None:
        """Raises UserError for a limit that no shares of the exits satisfy, before anything is measured."""
        bound = self.settings.limits.get("expected_macs")
        if bound is None:
            return
        smallest = self.problem.smallest("macs")  # has the first exit only
        least = self.costs(smallest[None])["macs"][0]
        if least > bound:
            raise UserError(
                f"no architecture has expected MACs with early exit of at most {bound:g}: the smallest network has "
                f"{least:,} MACs, {self.problem.describe(smallest)}; raise the limit"
            )

    def _check_plugins(self) -> None:
        """Raises UserError for a searcher or a predictor that cannot run here, before anything is measured."""
        codes = self.problem.sample(16, np.random.default_rng(0))
        model = self._new_model()
        model.fit(codes, np.arange(16.0))
        self.models = {"top1": model, **(dict.fromkeys(("expected_top1", "exit_ratio"), model) if self.heights else {})}
        searcher = registry.load(registry.SEARCHERS, self.settings.searcher)
        search(searcher, self.problem, evaluations=2, seed=0)
        self.models = {}

    def _new_model(self) -> AccuracyModel:
        return AccuracyModel(self.settings.predictor, self.encoding, self.costs)

    @property
    def heights(self) -> tuple[int, ...]:
        """The exits that are trained; empty for a supernet without early exits."""
        return tuple(self.encoding.choices(HEIGHT)) if HEIGHT in self.encoding.space else ()

    def largest_costs(self) -> Metrics:
        """The costs of the maximal network, arrays [1]."""
        costs = self.costs(self.encoding.canonical(self.encoding.upper[None]))
        if self.settings.early_exit:
            costs["expected_macs"] = costs["macs"]
        return costs

    def budgets(self) -> list[float]:
        """The budgets on the first cost, ascending: the settings' own, or shares of the largest cost or its limit."""
        cost = self.settings.cost
        if self.settings.budgets is not None:
            return sorted(self.settings.budgets)
        if cost is None:
            return []
        largest = self.settings.limits.get(cost, float(self.largest_costs()[cost][0]))
        return [float(f"{share * largest:.3g}") for share in SHARES]

    def encode(self, samples: Sequence[dict[str, Any]]) -> np.ndarray:
        """Canonical codes of measured samples."""
        archs = [{**sample["arch"], RESOLUTION: sample[RESOLUTION]} for sample in samples]
        return self.encoding.canonical(self.encoding.encode(archs))

    def predicted(self, codes: np.ndarray) -> Metrics:
        """The predicted accuracy and, if the settings name them, the metrics with early exit."""
        found: Metrics = {"top1": self.models["top1"].predict(codes)}
        if self.settings.early_exit:
            found["expected_top1"] = self.models["expected_top1"].predict(codes)
            ratio = np.clip(self.models["exit_ratio"].predict(codes), 0.01, 1)
            found["expected_macs"] = ratio * self._own_exit(self.costs.until_exit(codes), codes)
        return found

    def _own_exit(self, by_exit: np.ndarray, codes: np.ndarray) -> np.ndarray:
        return np.take_along_axis(by_exit, codes[:, [self.encoding.column[HEIGHT, 0]]], axis=1)[:, 0]

    def expected_macs(self, codes: np.ndarray, samples: Sequence[dict[str, Any]]) -> np.ndarray:
        """The expected MACs [N] of measured samples, from the measured shares of the exits."""
        by_exit = self.costs.until_exit(codes)
        return np.array(
            [np.dot(row[: len(s["exit_shares"])], s["exit_shares"]) for row, s in zip(by_exit, samples, strict=True)]
        )

    def fit(self, samples: Sequence[dict[str, Any]]) -> Quality:
        """Fit the predictors; returns the quality, on held-out samples, for the accuracy that is maximised."""
        codes = self.encode(samples)
        targets = {"top1": np.array([sample["val_top1"] for sample in samples])}
        if self.settings.early_exit:
            targets["expected_top1"] = np.array([sample["expected_val_top1"] for sample in samples])
            own = self._own_exit(self.costs.until_exit(codes), codes)
            targets["exit_ratio"] = self.expected_macs(codes, samples) / own
        for name, target in targets.items():
            self.models[name] = self._new_model()
            self.models[name].fit(codes, target)
        return cross_validate(
            self.models[self.settings.accuracy],
            codes,
            targets[self.settings.accuracy],
            np.array([sample["half_top1"] for sample in samples]),
            np.array([sample["trunk"] for sample in samples]),
            self.settings.seed,
        )

    def measured(self, samples: Sequence[dict[str, Any]], split: str = "val") -> Metrics:
        """The metrics of measured samples: accuracies on "val" or "test" images, and costs."""
        prefix = "val_" if split == "val" else ""
        codes = self.encode(samples)
        found = {**self.costs(codes), "top1": np.array([sample[f"{prefix}top1"] for sample in samples])}
        if self.settings.early_exit:
            found["expected_top1"] = np.array([sample[f"expected_{prefix}top1"] for sample in samples])
            found["expected_macs"] = self.expected_macs(codes, samples)
        return found
