"""Quality of a supernet: rank correlation of inherited accuracy with the accuracy of the same subnets from scratch.

    python benchmarks/supernet_quality.py converged runs/converged --arms SE_B EE_B --seed 0 [--root DATA]

Chooses subnets of the trained space at evenly spaced MACs, measures each with the supernet's weights (batch norms
recalibrated), then trains it from fresh weights with the recipe's full phase (`ofav2 finetune --from-scratch`). Every
training is resumable; finished ones are not repeated. Writes benchmarks/results/<name>/supernet-quality.json.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from scipy import stats

import ofav2_plugins as ofav2
from ofav2_plugins.evaluation.accuracy import Evaluator
from ofav2_plugins.evaluation.candidates import Candidate
from ofav2_plugins.execution.open_run import OpenRun
from ofav2_plugins.execution.provenance import environment
from ofav2_plugins.utils.distributed import make_fabric
from ofav2_plugins.utils.files import read_record

RESULTS = Path(__file__).parent / "results"
DRAWS = 400


def chosen_archs(run: OpenRun, resolution: int, n_subnets: int) -> list[dict[str, Any]]:
    """Architectures of the trained space at evenly spaced MACs among `DRAWS` random ones, ascending."""
    space, net, rng = run.unlocked_space(), run.supernet(), random.Random(0)
    drawn = [space.sample(rng) for _ in range(DRAWS)]
    drawn.sort(key=lambda arch: ofav2.cost(net, arch, resolution).macs)
    return [drawn[round(i * (DRAWS - 1) / (n_subnets - 1))] for i in range(n_subnets)]


def measure_arm(run: OpenRun, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Inherited and from-scratch accuracies of the chosen subnets of one arm, and their rank correlations."""
    data = run.data(options.root)
    evaluator = Evaluator(data, run.config.recipe, make_fabric("cpu"), run.config.seed)
    resolution, net, subnets = max(evaluator.resolutions), run.supernet(), []
    for i, arch in enumerate(chosen_archs(run, resolution, options.subnets)):
        inherited = evaluator.measure(net, Candidate(arch, resolution))
        trained = from_scratch(run, folder / f"{run.config.name}-{run.config.seed}-{i}", arch, resolution, options)
        subnets.append(
            {**inherited.to_dict(), "scratch_val_top1": trained["val_top1"], "scratch_top1": trained["top1"]}
        )
        print(f"{run.config.name} {i + 1}/{options.subnets}: inherited {inherited.top1:.2f} %, "
              f"from scratch {trained['top1']:.2f} %", flush=True)  # fmt: skip
    inherited_top1, scratch_top1 = ([s[key] for s in subnets] for key in ("top1", "scratch_top1"))
    return {
        "subnets": subnets,
        "kendall_tau": float(stats.kendalltau(inherited_top1, scratch_top1).statistic),
        "spearman": float(stats.spearmanr(inherited_top1, scratch_top1).statistic),
        "mean_difference": sum(scratch_top1) / len(subnets) - sum(inherited_top1) / len(subnets),
    }


def from_scratch(
    run: OpenRun, out: Path, arch: dict[str, Any], resolution: int, options: argparse.Namespace
) -> dict[str, Any]:
    """The record of the training of one subnet from fresh weights."""
    out.mkdir(parents=True, exist_ok=True)
    file = out.with_suffix(".arch.json")
    file.write_text(json.dumps({"arch": arch, "resolution": resolution}))
    if not (out / "finetune.json").exists():
        command = [sys.executable, "-m", "ofav2_plugins", "finetune", str(run.folder), "--arch", str(file), "--out",
                   str(out), "--from-scratch", "--resume", "--arm", run.config.name, "--seed", str(run.config.seed),
                   "--threads", str(options.threads)]  # fmt: skip
        subprocess.run([*command, *(["--root", str(options.root)] if options.root else [])], check=True)
    return read_record(out / "finetune.json")


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", help="folder in benchmarks/results")
    parser.add_argument("run", type=Path, help="run folder of the study")
    parser.add_argument("--arms", nargs="+", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--subnets", type=int, default=12)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    found: dict[str, Any] = {"environment": environment(make_fabric("cpu"))}
    for arm in options.arms:
        run = ofav2.open_run(options.run, arm=arm, seed=options.seed)
        found[arm] = measure_arm(run, options.run.with_name(f"{options.run.name}-scratch"), options)
        figures = ("kendall_tau", "spearman", "mean_difference")
        print(arm, *(f"{figure} {found[arm][figure]:+.2f}" for figure in figures))
    folder = RESULTS / options.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "supernet-quality.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
