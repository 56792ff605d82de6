"""Settings of a search, from the command line or the `search:` section of a study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from .. import registry
from ..recipes.schema import Count, Number, Positive, plugin_field
from ..searchers.problem import METRICS, metric
from ..utils.yaml_files import StrictModel

EXPECTED = ("expected_top1", "expected_macs")
ACCURACIES = ("top1", "expected_top1")


def _metric_names(names: list[str]) -> list[str]:
    known = [metric(name).name for name in names]
    if len(set(known)) != len(known):
        raise ValueError(f"objectives must be distinct, but got {names}")
    return known


def _limits(limits: Mapping[str, float]) -> dict[str, float]:
    found = {metric(name).name: bound for name, bound in limits.items()}
    for name, bound in found.items():
        if METRICS[name].maximize and bound > 100:
            raise ValueError(f"the smallest {METRICS[name].label} must be at most 100, but got {bound:g}")
    return found


class SearchSettings(StrictModel):
    """The settings on which the result of a search depends, in addition to the trained supernet."""

    objectives: Annotated[list[str], Field(min_length=1), AfterValidator(_metric_names)] = ["top1", "macs"]
    """Metrics to optimize, at least one of them an accuracy."""
    limits: Annotated[dict[str, Positive], AfterValidator(_limits)] = {}
    """Metric -> hard limit: the smallest allowed value of an accuracy, the largest of any other metric."""
    budgets: Annotated[list[Positive], Field(min_length=1)] | None = None
    """Values of the first cost within which the best subnet is reported; empty: 25 %, 50 % and 100 % of the largest."""
    searcher: plugin_field(registry.SEARCHERS) = "nsga2"  # type: ignore[valid-type]
    """Search algorithm: a plugin of `ofav2.searchers`."""
    predictor: plugin_field(registry.PREDICTORS) = "gbm"  # type: ignore[valid-type]
    """Accuracy predictor: a plugin of `ofav2.predictors`."""
    samples: Annotated[int, Field(strict=True, ge=20)] = 300
    """Number of architectures measured to fit the predictor."""
    evaluations: Count = 5000
    """Number of architectures the search evaluates with the predictor."""
    front_size: Count = 24
    """Number of architectures of the predicted front that are measured."""
    exit_threshold: Annotated[Number, Field(gt=0, le=1)] = 0.8
    """For the expected metrics: the largest probability at which an image exits early."""
    seed: Annotated[int, Field(strict=True, ge=0)] = 0
    """Seed of all random numbers of the search."""

    @model_validator(mode="after")
    def _consistent(self) -> SearchSettings:
        if not set(self.objectives) & set(ACCURACIES):
            raise ValueError(f"objectives must include one of {', '.join(ACCURACIES)}, but got {self.objectives}")
        return self

    @property
    def metrics(self) -> set[str]:
        """The metrics that the objectives and limits name."""
        return {*self.objectives, *self.limits}

    @property
    def accuracy(self) -> str:
        """The accuracy that is maximised: "top1" or "expected_top1"."""
        return next(name for name in self.objectives if name in ACCURACIES)

    @property
    def cost(self) -> str | None:
        """The first cost among the objectives, to which budgets apply."""
        return next((name for name in self.objectives if not METRICS[name].maximize), None)

    @property
    def early_exit(self) -> bool:
        """Whether a metric with early exit is an objective or limited."""
        return bool(self.metrics & set(EXPECTED))

    def identity(self) -> dict[str, Any]:
        """JSON-able values, plugins with all of their settings."""
        return {
            **self.model_dump(exclude={"searcher", "predictor"}),
            "searcher": registry.config_of(registry.SEARCHERS, self.searcher),
            "predictor": registry.config_of(registry.PREDICTORS, self.predictor),
        }
