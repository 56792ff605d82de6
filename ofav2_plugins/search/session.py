"""One search: measured samples, a predictor, a search on it, and its front measured for real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .. import registry
from ..errors import UserError
from ..evaluation.encoding import Encoding
from ..evaluation.latency_table import LatencyModel, LatencyTable
from ..searchers.pareto import nondominated
from ..searchers.problem import Metrics, Problem
from ..space import Arch
from ..utils.progress import Reporter
from ..utils.signals import StopRequest
from .accuracy_model import AccuracyModel, Quality, cross_validate
from .measure import TrunkMeter
from .samples import SAMPLES, SampleFile, Trunk, plan_trunks
from .searching import Found, front, search, spread
from .settings import SearchSettings
from .targets import HEIGHT, RESOLUTION, Costs, searched_space, split_arch
from .workers import Job, MeterSource, run_jobs

CANDIDATES = "candidates.jsonl"


@dataclass(frozen=True)
class SearchContext:
    """Where and how a search is computed; no result depends on it.

    Args:
        out: The folder of the search.
        reporter: Progress.
        stop: Asks to stop.
        workers: Processes that measure.
    """

    out: Path
    reporter: Reporter
    stop: StopRequest
    workers: int = 1


class Search:
    """A search on a trained supernet.

    Args:
        source: The training and how it is measured.
        settings: What is searched.
        table: A latency table; without one there is no metric latency_ms.

    Raises:
        UserError: Settings that do not fit the supernet, limits that no architecture keeps.
    """

    def __init__(
        self,
        source: MeterSource,
        settings: SearchSettings,
        table: LatencyTable | None = None,
    ):
        self.source, self.settings = source, settings
        self.run = source.open()
        space = self.run.unlocked_space(source.step)
        if "latency_ms" in settings.metrics and table is None:
            raise UserError("latency needs a table: make one with `ofav2 profile` and pass it with --latency TABLE")
        if settings.early_exit and (HEIGHT not in space or len(space.unlocked_values(HEIGHT)) < 2):
            raise UserError("expected_top1 and expected_macs need a supernet with several trained exits")
        self.meter: TrunkMeter = source.meter()
        self.net = self.meter.net
        self.encoding = Encoding(searched_space(space, self.meter.evaluator.resolutions))
        latency = LatencyModel(self.net, self.encoding, table) if table else None
        if latency is not None:
            for resolution in self.meter.evaluator.resolutions:
                latency.prepare(resolution)
        self.table, self.costs = table, Costs(self.net, self.encoding, latency)
        self.models: dict[str, AccuracyModel] = {}
        self.problem = Problem(self.encoding, settings.objectives, settings.limits, self.costs, self._predicted)
        self._check_plugins()

    def _check_plugins(self) -> None:
        """Raises UserError for a searcher or a predictor that cannot work here, before anything is measured."""
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

    def measurement_identity(self) -> dict[str, Any]:
        """What a measured accuracy depends on."""
        recipe = self.run.config.recipe
        return {
            "step": self.run.step_folder(self.source.step).name,
            "data": self.run.fingerprint,
            "seed": self.run.config.seed,
            "evaluation": recipe.evaluation.model_dump(include={"bn_images", "batch_size"}),
            "augmentation": recipe.model_dump()["augmentation"],
            "exit_threshold": self.settings.exit_threshold,
        }

    # -- predicting ----------------------------------------------------------------------------------------

    def _predicted(self, codes: np.ndarray) -> Metrics:
        """The predicted metrics: the accuracy, and with early exits what is asked for of those."""
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

    def encode(self, samples: Sequence[dict[str, Any]]) -> np.ndarray:
        """Canonical codes of measured samples."""
        archs = [{**sample["arch"], RESOLUTION: sample[RESOLUTION]} for sample in samples]
        return self.encoding.canonical(self.encoding.encode(archs))

    def fit(self, samples: Sequence[dict[str, Any]]) -> Quality:
        """Learn from the samples; the quality on held-out ones is that of the accuracy which is maximised."""
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

    # -- running -------------------------------------------------------------------------------------------

    @cached_property
    def trunks(self) -> list[Trunk]:
        """The networks that are measured for the predictor."""
        return plan_trunks(self.encoding, self.costs, self.settings.samples, self.settings.seed)

    def work(self) -> float:
        """Images that go through networks in the whole search."""
        evaluator = self.meter.evaluator
        per_trunk = evaluator.recipe.evaluation.bn_images + len(evaluator.data.validation)
        return per_trunk * len(self.trunks) + evaluator.images_per_candidate * self.settings.front_size

    def measured_samples(self, context: SearchContext) -> list[dict[str, Any]]:
        """All samples, measured now if they are not in the folder yet."""
        file = SampleFile(context.out / SAMPLES, self.measurement_identity())
        self._measure(file, [Job(trunk) for trunk in self.trunks], "measuring samples", context)
        return file.samples()

    def measured_candidates(self, archs: Sequence[Arch], context: SearchContext) -> list[dict[str, Any]]:
        """Architectures of the searched space, measured on validation and test images; with all that the file has."""
        file = SampleFile(context.out / CANDIDATES, self.measurement_identity())
        jobs = [Job(self._single(arch), ("validation", "test")) for arch in archs]
        self._measure(file, jobs, "measuring the front", context)
        return file.samples()

    def _single(self, arch: Arch) -> Trunk:
        own, resolution = split_arch(arch)
        heights = tuple(h for h in self.heights if h <= own[HEIGHT]) if self.heights else ()
        return Trunk(own, resolution, heights)

    def _measure(self, file: SampleFile, jobs: list[Job], description: str, context: SearchContext) -> None:
        evaluator, reporter = self.meter.evaluator, context.reporter
        images = {"validation": len(evaluator.data.validation), "test": len(evaluator.data.test)}
        left = [job for job in jobs if job.trunk not in file]

        def work(job: Job) -> float:
            return evaluator.recipe.evaluation.bn_images + sum(images[split] for split in job.splits)

        reporter.skip(sum(work(job) for job in jobs) - sum(work(job) for job in left))
        done = len(jobs) - len(left)
        for job, samples in run_jobs(self.source, self.meter, left, context.workers, context.stop):
            file.add(job.trunk, samples)
            done += 1
            reporter.advance(work(job), description, f"network {done}/{len(jobs)}")

    def result(self, context: SearchContext) -> SearchResult:
        """Run the whole search; what an earlier call has measured in the folder is not measured again.

        Raises:
            KeyboardInterrupt: `context.stop` asked to stop; all measurements are saved.
            UserError: No predicted architecture keeps the limits.
        """
        samples = self.measured_samples(context)
        quality = self.fit(samples)
        reporter = context.reporter
        reporter.line(
            f"{len(samples)} samples; predictor: Kendall tau {quality.kendall_tau:.3f} on held-out architectures "
            f"(two halves of the validation images: {quality.kendall_tau_ceiling:.3f}), rmse {quality.rmse:.2f} points"
        )
        searcher = registry.load(registry.SEARCHERS, self.settings.searcher)
        found = search(searcher, self.problem, self.settings.evaluations, self.settings.seed)
        baseline = search(
            registry.load(registry.SEARCHERS, "random"), self.problem, found.evaluations, self.settings.seed
        )
        if len(found.codes) == 0:
            raise UserError(f"no architecture found keeps the limits {self.settings.limits}; relax one of them")
        places = front(self.problem, found)
        values = self.problem.minimised({name: value[places] for name, value in found.metrics.items()})
        chosen = self.encoding.decode(found.codes[places[spread(values, self.settings.front_size)]])
        pool = [*self.measured_candidates(chosen, context), *samples]
        best = [{**pool[i]["arch"], RESOLUTION: pool[i][RESOLUTION]} for i in self.measured_front(pool)]
        candidates = self.measured_candidates(best, context)  # the samples among them lack the test images
        return SearchResult(self, samples, quality, found, baseline, candidates)

    def measured(self, samples: Sequence[dict[str, Any]], split: str = "val") -> Metrics:
        """The metrics of measured samples: accuracies on "val" or "test" images, and costs."""
        prefix = "val_" if split == "val" else ""
        codes = self.encode(samples)
        found = {**self.costs(codes), "top1": np.array([sample[f"{prefix}top1"] for sample in samples])}
        if self.settings.early_exit:
            found["expected_top1"] = np.array([sample[f"expected_{prefix}top1"] for sample in samples])
            found["expected_macs"] = self.expected_macs(codes, samples)
        return found

    def measured_front(self, samples: Sequence[dict[str, Any]]) -> np.ndarray:
        """Places of the samples that keep the limits and are not dominated, by what the validation images say."""
        metrics = self.measured(samples)
        feasible = np.flatnonzero(self.problem.violation(metrics) == 0)
        values = self.problem.minimised(metrics)[feasible]
        places = feasible[nondominated(values)]
        cost = self.settings.cost
        return places[np.argsort(metrics[cost][places], kind="stable")] if cost else places


@dataclass(frozen=True)
class SearchResult:
    """What a search has found.

    Args:
        search: The search.
        samples: Measured on validation images.
        quality: Of the predictor.
        found: What the searcher has looked at.
        baseline: What a random search with as many evaluations has looked at.
        candidates: Architectures measured on validation and test images, the measured front among them.
    """

    search: Search
    samples: list[dict[str, Any]]
    quality: Quality
    found: Found
    baseline: Found
    candidates: list[dict[str, Any]]
