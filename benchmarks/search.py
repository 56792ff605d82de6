"""Quality of the parts of a search on a trained supernet: predictors, searchers, and the cost formula.

    python benchmarks/search.py proxy-EE_D runs/ee_d [--step depth] [--samples 300] [--evaluations 5000] [--seeds 5]

- Predictors: Kendall tau, Spearman, RMSE on held-out architectures, the ceiling that the noise of the validation images
  sets, and the learning curve over samples; all from the same measured samples.
- Searchers: hypervolume with equal predicted evaluations, without and with a limit, for several seeds; seconds.
- Cost formula: milliseconds per architecture for thousands at once.

Measured samples are stored in runs/benchmark-search-NAME; the next call continues. Prints tables and writes
benchmarks/results/search/NAME.json. Timings need an idle machine; the load average is recorded.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from ofav2_plugins import registry
from ofav2_plugins.execution.open_run import open_run
from ofav2_plugins.execution.provenance import environment
from ofav2_plugins.executors.serial import Serial
from ofav2_plugins.models.spec import supernet_label
from ofav2_plugins.search.command import searched_step
from ofav2_plugins.search.searching import Volume, search
from ofav2_plugins.search.session import Search, SearchContext
from ofav2_plugins.search.settings import SearchSettings
from ofav2_plugins.search.workers import MeterSource
from ofav2_plugins.searchers.problem import Problem
from ofav2_plugins.utils.distributed import make_fabric
from ofav2_plugins.utils.progress import Reporter
from ofav2_plugins.utils.signals import stop_on_signals

RESULTS = Path(__file__).parent / "results" / "search"
PREDICTORS: dict[str, Any] = {
    "gbm": "gbm",
    "gbm, scikit-learn": {"name": "gbm", "library": "scikit-learn"},
    "mlp": "mlp",
}


def predictors(found: Search, samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The quality of each predictor on the same samples; the last one fitted is the first of PREDICTORS."""
    rows = []
    for name, reference in reversed(PREDICTORS.items()):
        found.settings = found.settings.model_copy(update={"predictor": reference})
        started = time.perf_counter()
        quality = found.fit(samples)
        rows.append(
            {
                "predictor": name,
                "kendall_tau": quality.kendall_tau,
                "kendall_tau_ceiling": quality.kendall_tau_ceiling,
                "spearman": quality.spearman,
                "rmse": quality.rmse,
                "learning_curve": quality.curve,
                "seconds": time.perf_counter() - started,
            }
        )
    return rows[::-1]


def searchers(found: Search, seeds: int, evaluations: int) -> list[dict[str, Any]]:
    """The hypervolume and time of each searcher with equal evaluations, without a limit and within half of the MACs."""
    largest = found.largest_costs()
    half = float(largest["macs"][0]) / 2
    rows = []
    for limits in ({}, {"macs": half}):
        problem = Problem(found.encoding, found.settings.objectives, limits, found.costs, found.predicted)
        volume = Volume(problem, largest)
        for name in registry.names(registry.SEARCHERS):
            runs = [
                search(registry.load(registry.SEARCHERS, name), problem, evaluations, seed) for seed in range(seeds)
            ]
            volumes = [volume(run.metrics) for run in runs]
            rows.append(
                {
                    "searcher": name,
                    "max_macs": limits.get("macs"),
                    "evaluations": [run.evaluations for run in runs],
                    "hypervolume": volumes,
                    "mean": float(np.mean(volumes)),
                    "seconds": [run.seconds for run in runs],
                }
            )
    return rows


def cost_milliseconds(found: Search, n: int = 5000) -> float:
    """CPU milliseconds per architecture of all costs of `n` architectures at once; the tables exist already."""
    codes = found.encoding.sample(n, np.random.default_rng(0))
    found.costs(codes)
    started = time.process_time()
    found.costs(codes)
    return 1e3 * (time.process_time() - started) / n


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables(content: dict[str, Any]) -> str:
    """The tables of a record in Markdown."""
    scores = ("kendall_tau", "kendall_tau_ceiling", "spearman", "rmse")
    first, *_ = content["predictors"]
    quality_header = ["predictor", "Kendall tau", "ceiling", "Spearman", "RMSE"]
    quality_header += [f"tau, {n} samples" for n, _ in first["learning_curve"]]
    quality = [
        [row["predictor"], *(f"{row[key]:.3f}" for key in scores), *(f"{tau:.3f}" for _, tau in row["learning_curve"])]
        for row in content["predictors"]
    ]
    volume_header = ["searcher", "limit", "hypervolume, mean", "lowest to highest seed", "seconds, slowest seed"]
    volumes = []
    for row in content["searchers"]:
        limit = "none" if row["max_macs"] is None else f"{row['max_macs'] / 1e6:.3g} M MACs"
        span = f"{min(row['hypervolume']):.4f} to {max(row['hypervolume']):.4f}"
        volumes.append([row["searcher"], limit, f"{row['mean']:.4f}", span, f"{max(row['seconds']):.1f}"])
    cost = f"cost formula: {content['cost_milliseconds']:.4f} ms per architecture"
    return "\n\n".join([table(quality_header, quality), table(volume_header, volumes), cost])


def measured(args: argparse.Namespace, console: Console) -> tuple[Search, list[dict[str, Any]]]:
    """The search of a trained supernet, and its measured samples."""
    run = open_run(args.run)
    source = MeterSource(
        args.run, None, None, searched_step(run, args.step), args.root, "cpu", 0.8, torch.get_num_threads()
    )
    found = Search(source, SearchSettings(samples=args.samples))
    out = Path("runs") / f"benchmark-search-{args.name}"
    out.mkdir(parents=True, exist_ok=True)
    with stop_on_signals(console.print) as stop, Reporter(console, found.work()) as reporter:
        return found, found.measured_samples(SearchContext(out, reporter, stop, Serial()))


def main() -> None:
    """Measure, print the tables and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of the record")
    parser.add_argument("run", type=Path, help="folder of a training")
    parser.add_argument("--step", help="search the weights of this step; default: the last")
    parser.add_argument("--root", type=Path, help="where the dataset is; default: where it was")
    for option, default in (("samples", 300), ("evaluations", 5000), ("seeds", 5), ("threads", 1)):
        parser.add_argument(f"--{option}", type=int, default=default)
    args, console = parser.parse_args(), Console()
    torch.set_num_threads(args.threads)
    found, samples = measured(args, console)
    load = os.getloadavg()[0]
    content = {
        "run": supernet_label(found.run.config.supernet),
        "step": found.source.step,
        "dataset": str(found.run.dataset),
        "validation_images": len(found.meter.evaluator.data.validation),
        "samples": len(samples),
        "evaluations": args.evaluations,
        "predictors": predictors(found, samples),
        "searchers": searchers(found, args.seeds, args.evaluations),
        "cost_milliseconds": cost_milliseconds(found),
        "load_average": load,
        "environment": environment(make_fabric("cpu")),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{args.name}.json").write_text(json.dumps(content, indent=1) + "\n")
    print(tables(content))


if __name__ == "__main__":
    main()
