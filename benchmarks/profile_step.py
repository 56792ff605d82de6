"""Time of a training step and of an evaluation by operation, with lower bounds from the machine's peaks.

    python benchmarks/profile_step.py [--size 64] [--threads 2]

The maximal network and the mean of six random subnets of SE_B at width 1.0, batch 64, fp32; and
recalibration and evaluation of these subnets with batches of 128. Writes benchmarks/results/profile-<size>.json.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from minimum_time import minimum_milliseconds
from speed import cross_entropy, noise, our_net, roofline, seconds, trainer
from torch.profiler import ProfilerActivity, profile

import ofav2_plugins as ofav2
from ofav2_plugins.execution.provenance import environment
from ofav2_plugins.models.batch_norm import fold_bn, recalibrate_bn
from ofav2_plugins.utils.distributed import make_fabric
from ofav2_plugins.utils.memory import keep_freed_memory

REPEATS, SUBNETS = 6, 6

PRODUCTS = ("aten::mkldnn_convolution", "aten::mm", "aten::addmm")
ACTIVATIONS = ("aten::threshold_backward", "aten::hardswish", "aten::hardswish_backward", "aten::clamp_min_")


def kind_of(event: Any) -> str:
    """The part of the step that a profiled operation belongs to."""
    name, shapes = event.key, [shape for shape in event.input_shapes if shape]
    if name in ("aten::mkldnn_convolution", "aten::convolution_backward"):
        weight = shapes[2] if "backward" in name else shapes[1]
        kernel = "depthwise" if weight[1] == 1 else "1x1" if weight[2] == 1 else "stem"
        if kernel == "stem":
            return "stem"
        return f"{kernel} convolutions, {'backward' if 'backward' in name else 'forward'}"
    if "batch_norm" in name or name in ("aten::addcmul", "aten::addcmul_"):  # the gradient of its input
        return "batch norms"
    if name in ACTIVATIONS:
        return "activations"
    if name in ("aten::mm", "aten::addmm"):
        return "matrix products (squeeze-and-excitation, heads, kernel transforms)"
    if "sgd" in name.lower():
        return "optimizer"
    return "copies, slices, sums, dispatch"


def profiled(work: Callable[[], object], steps: int, bounds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Milliseconds of a step by kind (the minimum over the repeats for each operation), and their lower bounds.

    Args:
        work: Trains `steps` steps.
        steps: Their number.
        bounds: For each step, `minimum_milliseconds`.
    """
    for _ in range(3):
        work()
    wall = min(seconds(work) for _ in range(REPEATS)) / steps * 1e3
    best: dict[tuple, tuple[float, str]] = {}
    for _ in range(REPEATS):
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as recorded:
            work()
        for event in recorded.key_averages(group_by_input_shape=True):
            key = (event.key, str(event.input_shapes))
            took = event.self_cpu_time_total / 1e3 / steps
            best[key] = min(best.get(key, (math.inf, "")), (took, kind_of(event)))
    kinds: dict[str, float] = defaultdict(float)
    for took, kind in best.values():
        kinds[kind] += took
    kinds["Python, and time that the profiler does not see"] = wall - sum(kinds.values())

    def mean(kind: str, name: str) -> float:
        return sum(bound.get(kind, {}).get(name, 0.0) for bound in bounds) / len(bounds)

    names = ("gbyte", "gflop", "bound_ms")
    rows = {kind: {"ms": took, **{name: mean(kind, name) for name in names}} for kind, took in kinds.items()}
    least = sum(row["bound_ms"] for row in rows.values())
    return {"step_ms": wall, "bound_ms": least, "share_of_bound": least / wall, "kinds": rows}


def evaluated(net: Any, archs: list[dict[str, Any]], size: int, peak: dict[str, float]) -> dict[str, Any]:
    """Milliseconds per subnet: its extraction, and a batch of 128 images in recalibration and in evaluation.

    The two have their lower bounds and "convolutions_ms", the time in convolutions and matrix products.
    """
    images = noise(size, 128)[0]
    found: dict[str, Any] = {}
    subnets: list[Any] = []

    def extract() -> None:
        subnets.clear()
        for arch in archs:
            net.set_active_subnet(**arch)
            subnets.append(ofav2.accelerate(net.get_active_subnet()))

    def recalibrate() -> None:
        for subnet in subnets:
            recalibrate_bn(subnet, [images])

    @torch.inference_mode()
    def evaluate() -> None:
        for subnet in subnets:
            subnet(images)

    for mode, work in (("extraction", extract), ("recalibration", recalibrate), ("evaluation", evaluate)):
        if mode == "evaluation":
            for subnet in subnets:
                fold_bn(subnet.eval())
        work()
        found[mode] = {"ms": min(seconds(work) for _ in range(REPEATS)) / len(archs) * 1e3}
        if mode == "extraction":
            continue
        with profile(activities=[ProfilerActivity.CPU]) as recorded:
            work()
        spent = [e.self_cpu_time_total for e in recorded.key_averages() if e.key in PRODUCTS]
        least = 0.0
        for arch in archs:
            net.set_active_subnet(**arch)
            least += sum(kind["bound_ms"] for kind in minimum_milliseconds(net, images, peak, mode).values())
        found[mode] |= {"convolutions_ms": sum(spent) / 1e3 / len(archs), "bound_ms": least / len(archs)}
    return found


def main() -> None:
    """Profile, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    peak = roofline()
    net = our_net()
    images, labels = noise(options.size)
    step = trainer(net, cross_entropy, images, labels)
    archs = [net.space.sample(random.Random(i)) for i in range(SUBNETS)]
    bounds = []
    for arch in archs:
        net.set_active_subnet(**arch)
        bounds.append(minimum_milliseconds(net, images, peak))

    def over_archs() -> None:
        for arch in archs:
            net.set_active_subnet(**arch)
            step()

    found = {"random subnets": profiled(over_archs, SUBNETS, bounds)}
    net.set_max_net()
    found["maximal network"] = profiled(step, 1, [minimum_milliseconds(net, images, peak)])
    for name, part in found.items():
        print(f"{name}, {options.size} px: {part['step_ms']:.0f} ms per step, lower bound {part['bound_ms']:.0f} ms")
        for kind, row in sorted(part["kinds"].items(), key=lambda item: -item[1]["ms"]):
            cost = f"{row['gbyte']:5.2f} GB {row['gflop']:5.1f} GFLOP, lower bound {row['bound_ms']:5.1f} ms"
            print(f"  {kind:68s} {row['ms']:6.1f} ms; {cost}")
    evaluation = evaluated(net, archs, options.size, peak)
    for mode, row in evaluation.items():
        print(f"{mode} of a subnet: " + ", ".join(f"{name} {value:.0f}" for name, value in row.items()))
    found["evaluation of a subnet, 128 images"] = evaluation
    path = Path(__file__).parent / "results" / f"profile-{options.size}.json"
    content = {"environment": environment(make_fabric("cpu")), "roofline": peak, **found}
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
