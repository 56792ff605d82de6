"""The same numbers, how much faster: upstream `ofa` and ours side by side on a CPU.

    python benchmarks/speed.py [--threads 2] [--pairs 5] [--quick]

Every figure is a ratio measured in this one process: upstream and ours alternate, the medians of the pairs are
compared. Batch 64, fp32, width multiplier 1.0, 200 classes; inputs are noise of the dataset's shape, the same for both.
Writes benchmarks/results/speed.json. `--quick` takes fewer pairs and subnets, to look at a change.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ofav2_plugins as ofav2
from ofav2_plugins.bn import fold_bn, recalibrate_bn
from ofav2_plugins.distributed import make_fabric
from ofav2_plugins.meters import peak_memory_mib, reset_peak_memory
from ofav2_plugins.runfolder import environment
from ofav2_plugins.upstream import OFAMobileNetV3

BATCH, CLASSES = 64, 200
SPACE: dict[str, Any] = {"ks_list": [3, 5, 7], "expand_ratio_list": [3, 4, 6], "depth_list": [2, 3, 4]}
CALIBRATION, TEST = 256, 512
"""Images of one evaluation, in batches of 128."""

# (row, target, floor)
TARGETS = {
    "training, maximal network, 64 px": (3.0, 2.0),
    "training, maximal network, 48 px": (3.0, 2.0),
    "training, 20 random subnets, 64 px": (3.0, 2.0),
    "training, 20 random subnets, 48 px": (3.0, 2.0),
    "training, maximal network, 32 px": (2.5, 2.0),
    "training, 20 random subnets, 32 px": (2.5, 2.0),
    "one subnet, re-calibrated and evaluated, 64 px": (2.5, 2.0),
    "48 subnets, re-calibrated and evaluated, 64 px": (3.0, 2.0),
    "EE_DP, all exits, against its plain layers, 64 px": (2.5, 1.8),
}


def upstream_net() -> nn.Module:
    """Upstream's supernet."""
    return OFAMobileNetV3(n_classes=CLASSES, width_mult=1.0, dropout_rate=0, **SPACE)


def our_net(name: str = "SE_B") -> ofav2.Supernet:
    """Ours, as the trainer has it."""
    net = ofav2.build_supernet(name, n_classes=CLASSES, dropout_rate=0)
    return net.to(memory_format=torch.channels_last)


def trainer(net: nn.Module, loss: Callable[[nn.Module, Tensor, Tensor], Tensor], x: Tensor, y: Tensor):
    """A function that trains one step."""
    optimizer = torch.optim.SGD(net.train().parameters(), 1e-3, momentum=0.9, nesterov=True, weight_decay=3e-5)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(net, x, y).backward()
        optimizer.step()

    return step


def cross_entropy(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The loss of a single exit."""
    return F.cross_entropy(net(x), y)


def all_exits(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The summed loss of all exits."""
    return sum(F.cross_entropy(logits, y) for logits in net.forward_exits(x))  # type: ignore[return-value]


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(name: str, theirs: Callable[[], object], ours: Callable[[], object], pairs: int, images: int) -> dict:
    """Alternate two pieces of work; medians of the pairs after one that is not counted."""
    times = [(seconds(theirs), seconds(ours)) for _ in range(pairs + 1)][1:]
    their_median, our_median = (statistics.median(column) for column in zip(*times, strict=True))
    row = {
        "work": name,
        "upstream_images_per_second": images / their_median,
        "our_images_per_second": images / our_median,
        "ratio": their_median / our_median,
        "pairs": [[round(a, 4), round(b, 4)] for a, b in times],
    }
    target, floor = TARGETS[name]
    row |= {"target": target, "floor": floor}
    print(f"{name:52s} {row['upstream_images_per_second']:8.1f} {row['our_images_per_second']:8.1f} "
          f"{row['ratio']:6.2f} x  (target {target}, floor {floor})", flush=True)  # fmt: skip
    return row


def noise(size: int) -> tuple[Tensor, Tensor]:
    """A batch of images and labels."""
    generator = torch.Generator().manual_seed(size)
    return (
        torch.randn(BATCH, 3, size, size, generator=generator),
        torch.randint(0, CLASSES, (BATCH,), generator=generator),
    )


def training_rows(pairs: int, n_subnets: int) -> list[dict]:
    """Training steps of the maximal network and of random subnets."""
    rows = []
    for size in (64, 48, 32):
        theirs, ours, (x, y) = upstream_net(), our_net(), noise(size)
        archs = [ours.space.sample(random.Random(i)) for i in range(n_subnets)]
        steps = [
            trainer(net, cross_entropy, x, y)
            for net, x in ((theirs, x), (ours, x.contiguous(memory_format=torch.channels_last)))
        ]
        theirs.set_max_net(), ours.set_max_net()
        rows.append(compare(f"training, maximal network, {size} px", *steps, pairs, BATCH))

        def over_archs(net: nn.Module, step: Callable[[], None], archs=archs) -> Callable[[], None]:
            def work() -> None:
                for arch in archs:
                    net.set_active_subnet(**arch)
                    step()

            return work

        both = (over_archs(theirs, steps[0]), over_archs(ours, steps[1]))
        rows.append(compare(f"training, 20 random subnets, {size} px", *both, pairs, BATCH * len(archs)))
    return rows


def evaluation_rows(pairs: int, n_subnets: int) -> list[dict]:
    """Extracting, re-calibrating and evaluating subnets, by upstream's functions and by ours, on the same batches."""
    from ofa.imagenet_classification.elastic_nn.utils import set_running_statistics

    theirs, ours = upstream_net(), our_net()
    images = torch.randn(CALIBRATION + TEST, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    calibration, test = images[:CALIBRATION].split(128), images[CALIBRATION:].split(128)
    last = [[x.contiguous(memory_format=torch.channels_last) for x in part] for part in (calibration, test)]

    def upstream_one(arch: dict) -> None:
        theirs.set_active_subnet(**arch)
        subnet = theirs.get_active_subnet(preserve_weight=True)
        set_running_statistics(subnet, [(x, None) for x in calibration])
        with torch.no_grad():
            for x in test:
                subnet.eval()(x).argmax(1)

    def our_one(arch: dict) -> None:
        ours.set_active_subnet(**arch)
        subnet = ofav2.accelerate(ours.get_active_subnet())
        recalibrate_bn(subnet, last[0])
        fold_bn(subnet.eval())
        with torch.no_grad():
            for x in last[1]:
                subnet.eval()(x).argmax(1)

    archs = [ours.space.sample(random.Random(i)) for i in range(n_subnets)]
    rows = []
    for name, chosen in (("one subnet", archs[:1]), ("48 subnets", archs)):
        rows.append(
            compare(
                f"{name}, re-calibrated and evaluated, 64 px",
                lambda chosen=chosen: [upstream_one(arch) for arch in chosen],
                lambda chosen=chosen: [our_one(arch) for arch in chosen],
                pairs,
                len(chosen) * len(images),
            )
        )
    return rows


def exits_row(pairs: int) -> dict:
    """The maximal EE_DP network with all exits against itself on upstream's layers."""
    plain, fast, (x, y) = our_net("EE_DP").to(memory_format=torch.contiguous_format), our_net("EE_DP"), noise(64)
    slow = trainer(plain, all_exits, x, y)
    quick = trainer(fast, all_exits, x.contiguous(memory_format=torch.channels_last), y)

    def on_plain_layers() -> None:
        with ofav2.reference_layers():
            slow()

    return compare("EE_DP, all exits, against its plain layers, 64 px", on_plain_layers, quick, pairs, BATCH)


def peak_of(whose: str) -> float:
    """Peak memory in MiB of three training steps of the maximal network at 64 px, above what was there before."""
    net, (x, y) = upstream_net() if whose == "upstream" else our_net(), noise(64)
    if whose == "ours":
        x = x.contiguous(memory_format=torch.channels_last)
    cpu = torch.device("cpu")
    reset_peak_memory(cpu)
    before = peak_memory_mib(cpu)
    step = trainer(net, cross_entropy, x, y)
    for _ in range(3):
        step()
    return peak_memory_mib(cpu) - before


def memory_row() -> dict:
    """Peak memory, each in a process of its own."""
    peaks = {}
    for whose in ("upstream", "ours"):
        call = [sys.executable, __file__, "--peak-of", whose, "--threads", str(torch.get_num_threads())]
        peaks[whose] = float(subprocess.run(call, capture_output=True, text=True, check=True).stdout)
    ratio = peaks["ours"] / peaks["upstream"]
    print(f"{'peak memory of the training step (MiB)':52s} {peaks['upstream']:8.1f} {peaks['ours']:8.1f} "
          f"{ratio:6.2f} x  (target 1.0, floor 1.3)")  # fmt: skip
    return {"work": "peak memory of the training step", "mib": peaks, "ratio": ratio, "target": 1.0, "floor": 1.3}


def roofline() -> dict[str, float]:
    """The machine's matrix peak (GFLOP/s) and memory bandwidth (GB/s), and the share of the peak that training has."""
    a = torch.randn(2048, 2048)
    matrix = 2 * 2048**3 / min(seconds(lambda: a @ a) for _ in range(5)) / 1e9
    big = torch.randn(64 * 2**20)
    target = torch.empty_like(big)
    bandwidth = 2 * 4 * big.numel() / min(seconds(lambda: target.copy_(big)) for _ in range(5)) / 1e9
    return {"matrix_gflops": matrix, "copy_gb_per_second": bandwidth}


def main() -> None:
    """Measure, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peak-of", choices=("upstream", "ours"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak_of:
        print(peak_of(options.peak_of))
        return
    pairs, n_train, n_eval = (2, 6, 6) if options.quick else (options.pairs, 20, 48)
    print(f"{'':52s} {'upstream':>8s} {'ours':>8s}  images/s")
    peak = roofline()
    rows = training_rows(pairs, n_train)
    rows += evaluation_rows(pairs, n_eval)
    rows += [exits_row(pairs), memory_row()]
    with torch.no_grad():
        macs = ofav2_macs()
    share = rows[0]["our_images_per_second"] * 3 * 2 * macs / 1e9 / peak["matrix_gflops"]
    print(f"matrix peak {peak['matrix_gflops']:.0f} GFLOP/s, copy {peak['copy_gb_per_second']:.1f} GB/s; "
          f"training the maximal network at 64 px has {100 * share:.0f} % of the matrix peak")  # fmt: skip
    if not options.quick:
        path = Path(__file__).parent / "results" / "speed.json"
        path.parent.mkdir(exist_ok=True)
        made = environment(make_fabric("cpu"))
        result = {"environment": made, "roofline": peak, "share_of_peak": share, "rows": rows}
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(os.path.relpath(path))


def ofav2_macs() -> int:
    """Multiply-accumulates of the maximal network for one image of 64 px."""
    from ofav2_plugins.evaluate import count_macs

    return count_macs(our_net().get_active_subnet().eval(), 64)


if __name__ == "__main__":
    main()
