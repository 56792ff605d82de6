"""How speed and memory of training depend on width, resolution, batch size, exits and branches.

    python benchmarks/cost_growth.py [--threads 2] [--seconds 4]

Trains the maximal network of a supernet with the loss of all of its exits. One quantity changes at a time; the others
keep the values SE_B, width multiplier 1.0, 48 pixels, batch 64. Each point runs in its own process. Writes
benchmarks/results/cost-growth.json and .png. Needs an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from speed import multi_exit_loss, noise, trainer

import ofav2_plugins as ofav2
from ofav2_plugins.execution.provenance import environment
from ofav2_plugins.utils.distributed import make_fabric
from ofav2_plugins.utils.memory import keep_freed_memory, peak_memory_mib, reset_peak_memory

RESULTS = Path(__file__).parent / "results"
DEFAULT: dict[str, Any] = {"supernet": "SE_B", "width": 1.0, "size": 48, "batch": 64}
BRANCHES = ("conv1x1", "transform", "ghost", "se", "eca", "identity", "dilated")
SERIES: dict[str, list[tuple[Any, dict[str, Any]]]] = {
    "width multiplier": [(width, {"width": width}) for width in (0.25, 0.5, 1.0, 1.5)],
    "resolution (pixels)": [(size, {"size": size}) for size in (32, 48, 64, 96)],
    "batch size": [(batch, {"batch": batch}) for batch in (16, 32, 64, 128, 256)],
    "height (exits, EE_B)": [(n, {"supernet": "EE_B", "height": n}) for n in (1, 2, 3, 4, 5)],
    "branches besides the MB block": [
        (n, {"supernet": {"branches": list(BRANCHES[:n])} if n else "SE_B"}) for n in (0, 1, 2, 3)
    ],
}


def point(settings: dict[str, Any], seconds: float) -> dict[str, float]:
    """Images per second, and peak memory in MiB beyond that of the process before."""
    keep_freed_memory()
    cpu = torch.device("cpu")
    net = ofav2.build_supernet(settings["supernet"], n_classes=200, width_mult=settings["width"], dropout_rate=0)
    net.to(memory_format=torch.channels_last)
    if "height" in settings:
        net.set_active_subnet(height=settings["height"])
    images, labels = noise(settings["size"], settings["batch"])
    reset_peak_memory(cpu)
    before = peak_memory_mib(cpu)
    step = trainer(net, multi_exit_loss, images, labels)
    for _ in range(2):
        step()
    started, n_steps = time.perf_counter(), 0
    while time.perf_counter() - started < seconds or n_steps < 2:
        step()
        n_steps += 1
    speed = n_steps * settings["batch"] / (time.perf_counter() - started)
    return {"images_per_second": speed, "memory_mib": peak_memory_mib(cpu) - before}


def measure(settings: dict[str, Any], options: argparse.Namespace) -> dict[str, float]:
    """`point` in its own process."""
    arguments = ["--point", json.dumps(settings), "--threads", str(options.threads), "--seconds", str(options.seconds)]
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def draw(series: dict[str, list[dict[str, Any]]]) -> None:
    """Speed (above) and memory (below) of each series."""
    figure, axes = plt.subplots(2, len(series), figsize=(3 * len(series), 5.5), sharey="row", sharex="col")
    for (name, rows), (top, bottom) in zip(series.items(), axes.T, strict=True):
        values = [row["value"] for row in rows]
        top.plot(values, [row["images_per_second"] for row in rows], "o-", color="#1f6f8b")
        bottom.plot(values, [row["memory_mib"] for row in rows], "o-", color="#c8553d")
        bottom.set_xlabel(name)
        for axis in (top, bottom):
            axis.set_yscale("log")
            if max(values) > 10 * min(values) > 0:  # otherwise the smallest values overlap
                axis.set_xscale("log")
            axis.set_xticks(values, [str(value) for value in values])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
    for axis, label, ticks in (
        (axes[0, 0], "images per second", (100, 200, 400, 800)),
        (axes[1, 0], "peak memory (MiB)", (200, 400, 800, 1600)),
    ):
        axis.set_ylabel(label)
        axis.set_yticks(ticks, [str(tick) for tick in ticks])
    figure.tight_layout()
    figure.savefig(RESULTS / "cost-growth.png", dpi=110)


def main() -> None:
    """Measure every point, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.point:
        print(json.dumps(point(options.point, options.seconds)))
        return
    series: dict[str, list[dict[str, Any]]] = {}
    for name, points in SERIES.items():
        series[name] = []
        for value, changed in points:
            row = {"value": value, **measure({**DEFAULT, **changed}, options)}
            series[name].append(row)
            print(f"{name} {value}: {row['images_per_second']:.0f} images/s, {row['memory_mib']:.0f} MiB", flush=True)
    content = {"environment": environment(make_fabric("cpu")), "default": DEFAULT, "series": series}
    (RESULTS / "cost-growth.json").write_text(json.dumps(content, indent=1) + "\n")
    draw(series)


if __name__ == "__main__":
    main()
