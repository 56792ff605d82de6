"""The speed of this package compared with upstream `ofa` on a CPU, for the same computation.

    python benchmarks/speed.py [--threads 2] [--pairs 5] [--quick]

Each figure is a ratio measured in one run: upstream and this package alternate, each in its own process, and the
medians of the pairs are compared. Unless the row says otherwise: batch 64, fp32, width multiplier 1.0, 200 classes;
both get the same noise as input. Rows "against channels-last" and "against torch.compile" compare with optimized use of
upstream. The table is printed again at the end, slowest ratio first, and written to benchmarks/results/speed.json.
`--quick` uses fewer pairs and subnets, to check a change; `--rows TEXT` measures only the rows whose name contains the
text. Neither writes the file.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from speed_rows import BATCH, SEARCH, TARGETS, TRAININGS, Training
from torch import Tensor, nn

import ofav2_plugins as ofav2
from ofav2_plugins import registry
from ofav2_plugins.execution.provenance import environment
from ofav2_plugins.models.batch_norm import fold_bn, recalibrate_bn
from ofav2_plugins.recipes.schema import load_recipe
from ofav2_plugins.space import SearchSpace
from ofav2_plugins.training.trainer import make_optimizer
from ofav2_plugins.utils.distributed import make_fabric
from ofav2_plugins.utils.memory import keep_freed_memory, peak_memory_mib, reset_peak_memory

CLASSES = 200
CALIBRATION, TEST = 256, 512
"""Images of one evaluation, in batches of 128."""

HEIGHTS = range(1, 6)
"""The exits of EE_D."""

PEAK = "peak memory of the training step"


def upstream_net(backbone: str = "mobilenet_v3", width: float = 1.0) -> nn.Module:
    """Upstream's supernet of a backbone."""
    plugin = registry.load(registry.BACKBONES, backbone)
    return plugin.network(**plugin.arguments(CLASSES, width, 0))


def our_net(name: str = "SE_B", backbone: str = "mobilenet_v3", width: float = 1.0) -> ofav2.Supernet:
    """This package's supernet, as the trainer uses it."""
    net = ofav2.build_supernet(name, n_classes=CLASSES, backbone=backbone, width_mult=width, dropout_rate=0)
    return net.to(memory_format=torch.channels_last)


def trainer(net: nn.Module, loss: Callable[[nn.Module, Tensor, Tensor], Tensor], x: Tensor, y: Tensor):
    """A function that trains one step, with the optimizer of each package's trainer."""
    if isinstance(net, ofav2.Supernet) and loss is cross_entropy:
        optimizer = make_optimizer(net.train(), load_recipe("paper"), 1e-3)
    else:
        optimizer = torch.optim.SGD(net.train().parameters(), 1e-3, momentum=0.9, nesterov=True, weight_decay=3e-5)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(net, x, y).backward()
        optimizer.step()

    return step


def cross_entropy(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The loss of a single exit."""
    return F.cross_entropy(net(x), y)


def multi_exit_loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The summed loss of all exits."""
    return sum(F.cross_entropy(logits, y) for logits in net.forward_exits(x))  # type: ignore[return-value]


def seconds(work: Callable[[], object]) -> float:
    """Duration of a call in seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class Side:
    """Upstream or this package in its own process, so that they do not share memory; measures rows on request."""

    def __init__(self, whose: str, options: argparse.Namespace):
        call = [sys.executable, __file__, "--side", whose, "--threads", str(options.threads)]
        self.process = subprocess.Popen(
            call + ["--quick"] * options.quick, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def measure(self, row: str) -> float:
        """The measurement of a row, in seconds or MiB."""
        assert self.process.stdin and self.process.stdout
        print(row, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def noise(size: int, batch: int = BATCH) -> tuple[Tensor, Tensor]:
    """A batch of images and labels."""
    generator = torch.Generator().manual_seed(size)
    return (
        torch.randn(batch, 3, size, size, generator=generator),
        torch.randint(0, CLASSES, (batch,), generator=generator),
    )


def works(whose: str, n_train: int, n_eval: int) -> dict[str, Callable[[], Callable[[], object]]]:
    """Row -> function that prepares it and returns its work, for one side."""
    rows: dict[str, Callable[[], Callable[[], object]]] = {
        name: functools.partial(training, row, whose, n_train) for name, row in TRAININGS.items()
    }
    archs = [own_space("mobilenet_v3").sample(random.Random(i)) for i in range(n_eval)]

    def evaluation(n: int) -> Callable[[], None]:
        if whose == "upstream":
            return upstream_evaluation(upstream_net(), archs[:n])
        return our_evaluation(our_net(), archs[:n])

    rows["one subnet, re-calibrated and evaluated, 64 px"] = lambda: evaluation(1)
    rows["48 subnets, re-calibrated and evaluated, 64 px"] = lambda: evaluation(n_eval)
    rows[SEARCH] = lambda: search_evaluation(whose, n_eval // 6)
    rows["EE_DP, all exits, against its plain layers, 64 px"] = lambda: all_exits_of_ee_dp(plain=whose == "upstream")
    return rows


def training(row: Training, whose: str, n_train: int) -> Callable[[], object]:
    """The work of a training row for one side."""
    if whose == "ours":
        net: nn.Module = our_net(backbone=row.backbone, width=row.width)
    else:
        net = upstream_net(row.backbone, row.width)
    x, y = noise(row.size, row.batch)
    if whose == "upstream" and row.against == "channels-last":
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    if whose == "upstream" and row.against == "torch.compile":
        net.compile()
    if not row.random:
        return trainer(net, cross_entropy, x, y)
    drawn = [own_space(row.backbone).sample(random.Random(i)) for i in range(n_train)]
    return over_archs(net, drawn, x, y)


def own_space(backbone: str) -> SearchSpace:
    """The space of a backbone, without a network."""
    return SearchSpace(registry.load(registry.BACKBONES, backbone).dims())


def over_archs(net: nn.Module, archs: list[dict], x: Tensor, y: Tensor) -> Callable[[], None]:
    """A function that trains one step of each architecture."""
    step = trainer(net, cross_entropy, x, y)

    def work() -> None:
        for arch in archs:
            net.set_active_subnet(**arch)
            step()

    return work


def evaluation_images() -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Batches for recalibration and for evaluation."""
    images = torch.randn(CALIBRATION + TEST, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return images[:CALIBRATION].split(128), images[CALIBRATION:].split(128)


def upstream_evaluation(net: nn.Module, archs: list[dict]) -> Callable[[], None]:
    """Extract, recalibrate and evaluate subnets in plain layers with upstream's functions."""
    from ofa.imagenet_classification.elastic_nn.utils import set_running_statistics

    calibration, test = evaluation_images()

    def work() -> None:
        for arch in archs:
            net.set_active_subnet(**arch)
            subnet = net.get_active_subnet(preserve_weight=True)
            set_running_statistics(subnet, [(x, None) for x in calibration])
            with torch.no_grad():
                for x in test:
                    subnet.eval()(x).argmax(1)

    return work


def our_evaluation(net: ofav2.Supernet, archs: list[dict]) -> Callable[[], None]:
    """Extract, recalibrate and evaluate subnets, each with all of its exits in one pass."""
    calibration, test = evaluation_images()

    def work() -> None:
        for arch in archs:
            net.set_active_subnet(**arch)
            subnet = ofav2.accelerate(net.get_multi_exit_subnet())
            recalibrate_bn(subnet, calibration)
            fold_bn(subnet.eval())
            with torch.inference_mode():
                for x in test:
                    for logits in subnet.forward_exits(x):
                        logits.argmax(1)

    return work


def search_evaluation(whose: str, count: int) -> Callable[[], None]:
    """Measure trunks of EE_D at all heights: in one pass per trunk, or each network on its own."""
    plain = ofav2.build_supernet("EE_D", n_classes=CLASSES, dropout_rate=0)
    trunks = [{**plain.space.sample(random.Random(i)), "height": max(HEIGHTS)} for i in range(count)]
    if whose == "ours":
        return our_evaluation(our_net("EE_D"), trunks)
    return upstream_evaluation(plain, [{**trunk, "height": height} for trunk in trunks for height in HEIGHTS])


def all_exits_of_ee_dp(plain: bool) -> Callable[[], None]:
    """Training steps of the maximal EE_DP network with all exits."""
    net, images = our_net("EE_DP"), noise(64)
    step = trainer(net.to(memory_format=torch.contiguous_format) if plain else net, multi_exit_loss, *images)

    def work() -> None:
        with ofav2.reference_layers() if plain else nullcontext():
            step()

    return work


def peak_of(whose: str) -> float:
    """Peak memory in MiB of three training steps of the maximal network at 64 px, minus the memory before them."""
    net, (x, y) = upstream_net() if whose == "upstream" else our_net(), noise(64)
    cpu = torch.device("cpu")
    reset_peak_memory(cpu)
    before = peak_memory_mib(cpu)
    step = trainer(net, cross_entropy, x, y)
    for _ in range(3):
        step()
    return peak_memory_mib(cpu) - before


def serve(whose: str, options: argparse.Namespace) -> None:
    """The process of one side: execute each requested row and print its measurement."""
    if whose == "ours":
        keep_freed_memory()  # as `ofav2 train` and `ofav2 ablate` do
    if (row := sys.stdin.readline().strip()) == PEAK:
        print(peak_of(whose), flush=True)
        return
    _, n_train, n_eval = sizes(options)
    prepared, rows, last = None, works(whose, n_train, n_eval), ""
    while row:
        if row != last:
            threads = TRAININGS[row].threads if row in TRAININGS else None
            torch.set_num_threads(threads or options.threads)
            prepared, last = rows[row](), row
            prepared()
        assert prepared is not None
        print(seconds(prepared), flush=True)
        row = sys.stdin.readline().strip()


def sizes(options: argparse.Namespace) -> tuple[int, int, int]:
    """Number of pairs, of trained subnets and of evaluated subnets."""
    return (2, 6, 6) if options.quick else (options.pairs, 20, 48)


def compare(row: str, sides: dict[str, Side], pairs: int, images: int) -> dict[str, Any]:
    """Measure both sides alternately; returns the medians of the pairs."""
    times = [[side.measure(row) for side in sides.values()] for _ in range(pairs)]
    theirs, ours = (statistics.median(column) for column in zip(*times, strict=True))
    target, floor = TARGETS[row]
    found = {
        "work": row,
        "upstream_images_per_second": images / theirs,
        "our_images_per_second": images / ours,
        "ratio": theirs / ours,
        "pairs": [[round(value, 4) for value in pair] for pair in times],
        "target": target,
        "floor": floor,
    }
    print_row(found)
    return found


def print_row(row: dict[str, Any]) -> None:
    """A line of the table."""
    theirs, ours = row["upstream_images_per_second"], row["our_images_per_second"]
    print(f"{row['work']:58s} {theirs:8.1f} {ours:8.1f} {row['ratio']:6.2f} x  "
          f"(target {row['target']}, floor {row['floor']})", flush=True)  # fmt: skip


def images_of(row: str, n_train: int, n_eval: int) -> int:
    """Images that the work of a row processes."""
    if row in TRAININGS:
        return TRAININGS[row].batch * (n_train if TRAININGS[row].random else 1)
    if row == SEARCH:
        return (CALIBRATION + TEST) * (n_eval // 6) * len(HEIGHTS)
    return BATCH if "EE_DP" in row else (CALIBRATION + TEST) * (n_eval if "48" in row else 1)


def memory_row(options: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of both sides, each in a new process."""
    peaks = {whose: Side(whose, options).measure(PEAK) for whose in ("upstream", "ours")}
    ratio = peaks["ours"] / peaks["upstream"]
    print(f"{PEAK + ' (MiB)':58s} {peaks['upstream']:8.1f} {peaks['ours']:8.1f} "
          f"{ratio:6.2f} x  (target 1.0, floor 1.3)")  # fmt: skip
    return {"work": PEAK, "mib": peaks, "ratio": ratio, "target": 1.0, "floor": 1.3}


def roofline() -> dict[str, float]:
    """The machine's peak in matrix products and 1x1 convolutions (GFLOP/s), and its memory bandwidth (GB/s)."""
    a = torch.randn(2048, 2048)
    product = 2 * 2048**3 / min(seconds(lambda: a @ a) for _ in range(5)) / 1e9
    x, weight = torch.randn(64, 480, 8, 8).contiguous(memory_format=torch.channels_last), torch.randn(480, 480, 1, 1)
    convolution = 2 * 64 * 64 * 480**2 / min(seconds(lambda: F.conv2d(x, weight)) for _ in range(50)) / 1e9
    big = torch.randn(64 * 2**20)
    target = torch.empty_like(big)
    bandwidth = 2 * 4 * big.numel() / min(seconds(lambda: target.copy_(big)) for _ in range(5)) / 1e9
    return {"matrix_gflops": max(product, convolution), "copy_gb_per_second": bandwidth}


def main() -> None:
    """Measure, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", default="", help="measure only the rows whose name contains this text")
    parser.add_argument("--side", choices=("upstream", "ours"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.side:
        serve(options.side, options)
        return
    pairs, n_train, n_eval = sizes(options)
    print(f"{'':58s} {'upstream':>8s} {'ours':>8s}  images/s")
    peak = roofline()
    sides = {whose: Side(whose, options) for whose in ("upstream", "ours")}
    chosen = [row for row in TARGETS if options.rows in row]
    rows = [compare(row, sides, pairs, images_of(row, n_train, n_eval)) for row in chosen]
    print("\nslowest ratio first:")
    for row in sorted(rows, key=lambda row: row["ratio"]):
        print_row(row)
    if options.rows:
        return
    rows.append(memory_row(options))
    share = rows[0]["our_images_per_second"] * 3 * 2 * ofav2_macs() / 1e9 / peak["matrix_gflops"]
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
    from ofav2_plugins.evaluation.cost import count_macs

    return count_macs(our_net().get_active_subnet().eval(), 64)


if __name__ == "__main__":
    main()
