"""Where the time of a training step goes, beside what the machine's matrix peak and memory bandwidth would allow.

    python benchmarks/profile_step.py [--size 64] [--threads 2]

The maximal network and the mean of six random subnets of SE_B at width 1.0, batch 64, fp32. Writes
benchmarks/results/profile-<size>.json.
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
from speed import cross_entropy, noise, our_net, roofline, seconds, trainer
from torch.profiler import ProfilerActivity, profile

from ofav2_plugins.allocator import keep_freed_memory
from ofav2_plugins.distributed import make_fabric
from ofav2_plugins.runfolder import environment

REPEATS, SUBNETS = 6, 6

PASSES = {
    "aten::native_batch_norm": 3,  # reads twice, writes once
    "aten::native_batch_norm_backward": 5,
    "aten::threshold_backward": 3,
    "aten::hardswish": 2,
    "aten::hardswish_backward": 3,
    "aten::clamp_min_": 2,
}
"""How often an operation reads or writes a map of its input's size, at least."""


def kind_of(event: Any) -> str:
    """What a profiled operation is part of."""
    name, shapes = event.key, [shape for shape in event.input_shapes if shape]
    if name in ("aten::mkldnn_convolution", "aten::convolution_backward"):
        weight = shapes[2] if "backward" in name else shapes[1]
        what = "depthwise" if weight[1] == 1 else "1x1 and stem"
        return f"{what} convolutions, {'backward' if 'backward' in name else 'forward'}"
    if "batch_norm" in name:
        return "batch norms"
    if name in PASSES:
        return "activations"
    if name in ("aten::mm", "aten::addmm"):
        return "matrix products (squeeze-and-excitation, heads, kernel transforms)"
    if "sgd" in name.lower():
        return "optimiser"
    return "copies, slices, sums, dispatch"


def least_seconds(event: Any, peak: dict[str, float]) -> float:
    """What one call would take at the matrix peak (convolutions, products) or the memory bandwidth (maps); else 0."""
    shapes = [shape for shape in event.input_shapes if shape]
    if event.key == "aten::mkldnn_convolution":
        x, weight = shapes[:2]
        return 2 * x[0] * x[2] * x[3] * math.prod(weight) / 1e9 / peak["matrix_gflops"]
    if event.key == "aten::convolution_backward":
        grad, _, weight = shapes[:3]
        return 4 * grad[0] * grad[2] * grad[3] * math.prod(weight) / 1e9 / peak["matrix_gflops"]
    if event.key in ("aten::mm", "aten::addmm"):
        a, b = shapes[-2:]
        return 2 * a[0] * math.prod(b) / 1e9 / peak["matrix_gflops"]
    if event.key in PASSES:
        return 4 * PASSES[event.key] * math.prod(shapes[0]) / 1e9 / peak["copy_gb_per_second"]
    return 0.0


def profiled(work: Callable[[], object], steps: int, peak: dict[str, float]) -> dict[str, Any]:
    """Milliseconds of a step by kind (each operation's smallest of some repeats), and of a step without profiler."""
    for _ in range(3):
        work()
    wall = min(seconds(work) for _ in range(REPEATS)) / steps * 1e3
    best: dict[tuple, tuple[float, float, str]] = {}
    for _ in range(REPEATS):
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as held:
            work()
        for event in held.key_averages(group_by_input_shape=True):
            key = (event.key, str(event.input_shapes))
            took = event.self_cpu_time_total / 1e3 / steps
            least = least_seconds(event, peak) * 1e3 * event.count / steps
            best[key] = min(best.get(key, (math.inf, 0.0, "")), (took, least, kind_of(event)))
    kinds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for took, least, kind in best.values():
        kinds[kind][0] += took
        kinds[kind][1] += least
    kinds["Python and what the profiler does not see"] = [wall - sum(took for took, _ in kinds.values()), 0.0]
    return {
        "step_ms": wall,
        "kinds": {kind: {"ms": took, "roofline_ms": least} for kind, (took, least) in kinds.items()},
    }


def main() -> None:
    """Profile, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    peak = roofline()
    net = our_net()
    step = trainer(net, cross_entropy, *noise(options.size))
    archs = [net.space.sample(random.Random(i)) for i in range(SUBNETS)]

    def over_archs() -> None:
        for arch in archs:
            net.set_active_subnet(**arch)
            step()

    found = {"random subnets": profiled(over_archs, SUBNETS, peak)}
    net.set_max_net()
    found["maximal network"] = profiled(step, 1, peak)
    for name, part in found.items():
        print(f"{name}: {part['step_ms']:.0f} ms a step at {options.size} px")
        for kind, row in sorted(part["kinds"].items(), key=lambda item: -item[1]["ms"]):
            print(f"  {kind:68s} {row['ms']:6.1f} ms, roofline {row['roofline_ms']:5.1f}")
    path = Path(__file__).parent / "results" / f"profile-{options.size}.json"
    content = {"environment": environment(make_fabric("cpu")), "roofline": peak, **found}
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
