"""Training speed next to other busy processes, for different ways in which threads wait for each other.

    python benchmarks/under_load.py [--seconds 5] [--repeats 1]

OpenMP threads that wait for each other spin by default: next to other busy processes they spend their time slices
waiting for threads that are not scheduled. Each figure is images per second of training random subnets (SE_B, batch
64) in a separate process, median of the repeats, alternating; `busy` is the number of other processes that keep a core
busy. Writes benchmarks/results/under-load.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "under-load.json"
NETWORKS = [(0.25, 32), (0.5, 40), (1.0, 64)]
"""Width multiplier, pixels."""
SETTINGS: dict[str, dict[str, str]] = {
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "2 threads, default": {"OMP_NUM_THREADS": "2"},
    **{f"2 threads, spin {n}": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": str(n)} for n in (30000, 10000, 3000, 1000)},
    "2 threads, passive": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"},
}


def train(seconds: float, width: float, size: int) -> float:
    """Images per second of training, after three steps of warm-up."""
    import torch

    import ofav2_plugins as ofav2
    from ofav2_plugins.recipes.schema import load_recipe
    from ofav2_plugins.training.trainer import make_optimizer

    torch.manual_seed(0)
    net = ofav2.build_supernet("SE_B", n_classes=40, width_mult=width).to(memory_format=torch.channels_last).train()
    images = torch.randn(64, 3, size, size).to(memory_format=torch.channels_last)
    labels, rng = torch.randint(0, 40, (64,)), random.Random(0)
    optimizer = make_optimizer(net, load_recipe("paper"), 1e-3)
    n_steps, started = -3, time.monotonic()
    while n_steps < 1 or time.monotonic() - started < seconds:
        net.sample_active_subnet(rng=rng)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
        n_steps += 1
        if n_steps == 0:
            started = time.monotonic()
    return n_steps * len(images) / (time.monotonic() - started)


def measure(settings: dict[str, str], network: tuple[float, int], busy: int, seconds: float) -> float:
    """`train` in a process with these environment variables, next to `busy` busy processes."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        command = [sys.executable, __file__, "--train", *map(str, (seconds, *network))]
        cleared = {"OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
        environment = {key: value for key, value in os.environ.items() if key not in cleared}
        done = subprocess.run(command, env={**environment, **settings}, check=True, capture_output=True, text=True)
        return float(done.stdout)
    finally:
        for process in others:
            process.kill()
            process.wait()


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--train", type=float, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train is not None:
        seconds, width, size = options.train
        print(train(seconds, width, int(size)))
        return
    from ofav2_plugins.execution.provenance import environment
    from ofav2_plugins.utils.distributed import make_fabric

    cases = list(itertools.product(SETTINGS, NETWORKS, (0, 1)))
    speeds: dict[tuple, list[float]] = {case: [] for case in cases}
    for _, (name, network, busy) in itertools.product(range(options.repeats), cases):
        speeds[name, network, busy].append(measure(SETTINGS[name], network, busy, options.seconds))
    rows = [
        {
            "threads": name,
            "width_mult": width,
            "pixels": size,
            "busy": busy,
            "images_per_second": statistics.median(found),
        }
        for (name, (width, size), busy), found in speeds.items()
    ]
    for row in rows:
        print(
            "{threads:22s} {width_mult:5.2f} {pixels:4d} px, {busy} busy: {images_per_second:6.0f} images/s".format(
                **row
            )
        )
    written = {"environment": environment(make_fabric("cpu")), "rows": rows}
    RESULT.write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
