"""One search: measured samples, a predictor, a search on it, and the measured front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .. import registry
from ..evaluation.latency_table import LatencyTable
from ..executors.base import Executor
from ..searchers.pareto import nondominated
from ..space import Arch
from ..utils.progress import Reporter
from ..utils.signals import StopRequest
from .accuracy_model import Quality
from .measure import TrunkMeter
from .model import SearchModel
from .samples import SAMPLES, SampleFile, Trunk, plan_trunks
from .searching import Found, best_within, front, search, spread
from .settings import SearchSettings
from .targets import HEIGHT, RESOLUTION, split_arch
from .workers import Job, MeterSource, run_jobs

CANDIDATES = "candidates.jsonl"


@dataclass(frozen=True)
class SearchContext:
    """Execution settings of a search; no result depends on them.

    Args:
        out: The folder of the search.
        reporter: Progress.
        stop: Whether the user requested a stop.
        executor: Executes the measurements.
    """

    out: Path
    reporter: Reporter
    stop: StopRequest
    executor: Executor


class Search(SearchModel):
    """A search on a trained supernet.

    Args:
        source: The training and how it is measured.
        settings: Settings of the search.
        table: A latency table; without one there is no metric latency_ms.

    Raises:
        UserError: Settings that do not fit the supernet, limits that no architecture satisfies.
    """

    def __init__(self, source: MeterSource, settings: SearchSettings, table: LatencyTable | None = None):
        self.source = source
        self.run = source.open()
        space = self.run.unlocked_space(source.step)
        self.meter: TrunkMeter = source.meter()
        self._candidates: list[Trunk] = []
        super().__init__(self.meter.net, space, self.meter.evaluator.resolutions, settings, table)

    def measurement_identity(self) -> dict[str, Any]:
        """The values that a measured accuracy depends on."""
        recipe = self.run.config.recipe
        return {
            "step": self.run.step_folder(self.source.step).name,
            "weights": self.weights,
            "data": self.run.fingerprint,
            "seed": self.run.config.seed,
            "evaluation": recipe.evaluation.model_dump(include={"bn_images", "batch_size"}),
            "augmentation": recipe.model_dump()["augmentation"],
            "exit_threshold": self.settings.exit_threshold,
        }

    @cached_property
    def weights(self) -> str:
        """The digest of the searched weights."""
        return self.run.weights_digest(self.source.step)

    @cached_property
    def trunks(self) -> list[Trunk]:
        """The networks to measure for the predictor."""
        return plan_trunks(self.encoding, self.costs, self.settings.samples, self.settings.seed)

    def work(self) -> float:
        """The work of the whole search, in image passes."""
        evaluator = self.meter.evaluator
        per_trunk = evaluator.recipe.evaluation.bn_images + len(evaluator.data.validation)
        return per_trunk * len(self.trunks) + evaluator.images_per_candidate * self.settings.front_size

    def measured_samples(self, context: SearchContext) -> list[dict[str, Any]]:
        """All samples; those that are not in the folder yet are measured."""
        file = self._file(SAMPLES, ("validation",), context)
        self._measure(file, [Job(trunk) for trunk in self.trunks], "measuring samples", context)
        return file.samples(self.trunks)

    def measured_candidates(self, archs: Sequence[Arch], context: SearchContext) -> list[dict[str, Any]]:
        """Measure architectures on validation and test images; returns all measured candidates of this search."""
        splits = ("validation", "test")
        file = self._file(CANDIDATES, splits, context)
        jobs = [Job(self._single(arch), splits) for arch in archs]
        self._measure(file, jobs, "measuring the front", context)
        self._candidates += [job.trunk for job in jobs]
        return file.samples(self._candidates)

    def _file(self, name: str, splits: Sequence[str], context: SearchContext) -> SampleFile:
        identity = {**self.measurement_identity(), "splits": list(splits)}
        return SampleFile(context.out / name, identity, context.reporter.line)

    def _single(self, arch: Arch) -> Trunk:
        own, resolution = split_arch(arch)
        heights = tuple(h for h in self.heights if h <= own[HEIGHT]) if self.heights else ()
        return Trunk(own, resolution, heights)

    def _measure(self, file: SampleFile, jobs: list[Job], description: str, context: SearchContext) -> None:
        evaluator, reporter = self.meter.evaluator, context.reporter
        images = {"validation": len(evaluator.data.validation), "test": len(evaluator.data.test)}
        pending = [job for job in jobs if job.trunk not in file]

        def work(job: Job) -> float:
            return evaluator.recipe.evaluation.bn_images + sum(images[split] for split in job.splits)

        reporter.skip(sum(work(job) for job in jobs) - sum(work(job) for job in pending))
        done = len(jobs) - len(pending)
        found = run_jobs(self.source, self.meter, pending, context.executor, context.stop, reporter.line)
        for job, samples in found:
            file.add(job.trunk, samples)
            done += 1
            reporter.advance(work(job), description, f"network {done}/{len(jobs)}")

    def result(self, context: SearchContext) -> SearchResult:
        """Run the whole search; existing measurements in the folder are reused.

        Raises:
            KeyboardInterrupt: `context.stop` requested a stop; all measurements are saved.
            UserError: No predicted architecture satisfies the limits.
        """
        samples = self.measured_samples(context)
        quality = self.fit(samples)
        context.reporter.line(
            f"{len(samples)} samples; predictor: Kendall tau {quality.kendall_tau:.3f} on held-out architectures "
            f"(two halves of the validation images: {quality.kendall_tau_ceiling:.3f}), RMSE {quality.rmse:.2f} points"
        )
        settings = self.settings
        searcher = registry.load(registry.SEARCHERS, settings.searcher)
        found = search(searcher, self.problem, settings.evaluations, settings.seed)
        baseline = search(registry.load(registry.SEARCHERS, "random"), self.problem, found.evaluations, settings.seed)
        if len(found.codes) == 0:
            raise self.problem.infeasible(found.closest[0], self.problem.evaluate(found.closest))
        candidates = self._measured_front(found, samples, context)
        return SearchResult(self, samples, quality, found, baseline, candidates)

    def _measured_front(
        self, found: Found, samples: list[dict[str, Any]], context: SearchContext
    ) -> list[dict[str, Any]]:
        """Candidates, including the measured front, measured on validation and test images.

        First measures a part of the predicted front, then the front of these and the samples, for its test accuracy.
        """
        places = front(self.problem, found)
        values = self.problem.minimised({name: value[places] for name, value in found.metrics.items()})
        wanted: list[int] = []
        if cost := self.settings.cost:
            accuracy, costs = (found.metrics[name][places] for name in (self.settings.accuracy, cost))
            wanted = best_within(accuracy, costs, self.budgets())
        chosen = self.encoding.decode(found.codes[places[spread(values, self.settings.front_size, wanted)]])
        pool = [*self.measured_candidates(chosen, context), *samples]
        best = [{**pool[i]["arch"], RESOLUTION: pool[i][RESOLUTION]} for i in self.measured_front(pool)]
        return self.measured_candidates(best, context)

    def measured_front(self, samples: Sequence[dict[str, Any]]) -> np.ndarray:
        """Indices of the samples that satisfy the limits and are not dominated on validation images."""
        metrics = self.measured(samples)
        feasible = np.flatnonzero(self.problem.violation(metrics) == 0)
        values = self.problem.minimised(metrics)[feasible]
        places: np.ndarray = feasible[nondominated(values)]
        cost = self.settings.cost
        return places[np.argsort(metrics[cost][places], kind="stable")] if cost else places


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Args:
        search: The search.
        samples: Samples measured on validation images.
        quality: Quality of the predictor.
        found: The evaluations of the searcher.
        baseline: The evaluations of a random search of the same size.
        candidates: Architectures measured on validation and test images, including the measured front.
    """

    search: Search
    samples: list[dict[str, Any]]
    quality: Quality
    found: Found
    baseline: Found
    candidates: list[dict[str, Any]]
