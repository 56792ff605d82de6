"""The precision of float32 gradients of this package and of upstream `ofa`, compared with upstream's in float64.

    python benchmarks/gradients.py [--sizes 64 48 32] [--seeds 0 1 2] [--threads 1]

For each parameter tensor, the norm of the error relative to the norm of the gradient, for the maximal network and a
random subnet of SE_B at width 1.0, batch 64, new weights and noise from each seed. Tensors whose gradient is zero up to
rounding (below 1e-7 of the largest norm) are omitted. Precision does not depend on the machine's load. Writes
benchmarks/results/gradients.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from speed import CLASSES, cross_entropy, noise, our_net, upstream_net
from torch import Tensor, nn

from ofav2_plugins.execution.provenance import environment
from ofav2_plugins.utils.distributed import make_fabric

ZERO = 1e-7
"""Norm of a gradient, relative to the largest, below which it is only rounding error."""


def gradients(net: nn.Module, arch: dict[str, Any], x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Parameter -> its gradient in one training step of an architecture, in float64."""
    net.train().set_active_subnet(**arch)
    net.zero_grad(set_to_none=True)
    cross_entropy(net, x, y).backward()
    return {name: p.grad.double() for name, p in net.named_parameters() if p.grad is not None}


def errors(found: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, float]:
    """Parameter -> relative error of its gradient."""
    norms = {name: value.norm().item() for name, value in truth.items()}
    largest = max(norms.values())
    return {name: (found[name] - truth[name]).norm().item() / n for name, n in norms.items() if n > ZERO * largest}


def summary(found: dict[str, float]) -> dict[str, Any]:
    """Median, maximum, and the parameter with the largest error."""
    worst = max(found, key=found.__getitem__)
    return {"median": statistics.median(found.values()), "max": found[worst], "worst": worst}


def measured(size: int, seed: int) -> Iterator[dict[str, Any]]:
    """One row for the maximal network and one for a random subnet."""
    torch.manual_seed(seed)
    theirs = upstream_net().train()
    ours = our_net()
    ours.load_state_dict(theirs.state_dict())
    exact = copy.deepcopy(theirs).double()
    x, _ = noise(size)
    x = x + 0.1 * torch.randn_like(x)
    y = torch.randint(0, CLASSES, (len(x),))
    archs = {"maximal network": ours.space.max_arch(), "random subnet": ours.space.sample(random.Random(seed))}
    for name, arch in archs.items():
        truth = gradients(exact, arch, x.double(), y)
        row = {"size": size, "seed": seed, "network": name}
        for whose, net in (("upstream", theirs), ("ours", ours)):
            row[whose] = summary(errors(gradients(net, arch, x, y), truth))
        yield row


def main() -> None:
    """Measure, print a line for each network and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 48, 32])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for size in options.sizes:
        for seed in options.seeds:
            for row in measured(size, seed):
                rows.append(row)
                figures = [
                    f"{whose}: median {row[whose]['median']:.1e}, max {row[whose]['max']:.1e}"
                    for whose in ("upstream", "ours")
                ]
                print(f"{size} px, seed {seed}, {row['network']:15s} {'; '.join(figures)}", flush=True)
    ratios = {
        kind: statistics.median(row["ours"][kind] / row["upstream"][kind] for row in rows) for kind in ("median", "max")
    }
    print(f"ours / upstream, median of the rows: {ratios['median']:.2f} (median), {ratios['max']:.2f} (max)")
    content = {"environment": environment(make_fabric("cpu")), "ratios": ratios, "rows": rows}
    (Path(__file__).parent / "results" / "gradients.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
