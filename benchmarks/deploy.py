"""Measured time of early exits compared with the full network, at several operating points, batch 1 and batch 64.

    python benchmarks/deploy.py RUN [--root DATA] [--arch ARCH.json] [--threads 1] [--rounds 5]

RUN is a finished training of a supernet with early exits. The architecture (default: the largest one) is exported with
early exits, for the accuracy of the full network ("equal accuracy") and for shares of its cost. Both networks then
classify the same test images, alternating batch by batch; the medians of the rounds are compared. Accuracies are on the
test images. Writes benchmarks/results/deploy.json and prints it as a table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import ofav2_plugins as ofav2
from ofav2_plugins.deploy.bench import compare_speed
from ofav2_plugins.deploy.bundle import Bundle
from ofav2_plugins.deploy.decision import DecisionOptions
from ofav2_plugins.deploy.export import ExportOptions, export_bundle
from ofav2_plugins.deploy.source import SourceOptions
from ofav2_plugins.deploy.verification import test_images
from ofav2_plugins.errors import UserError
from ofav2_plugins.utils.files import write_json

RESULTS = Path(__file__).parent / "results" / "deploy.json"
IMAGES = {1: 256, 64: 1024}
"""Batch size -> number of test images that are classified in a round."""
SHARES = (0.75, 0.5)
"""Targets for the mean cost of an image, as shares of the full network's."""


def export(options: argparse.Namespace, out: Path, arch: Path, target_macs: float | None = None) -> Bundle:
    """A bundle with early exits, for a mean cost or for the validation accuracy of the full network."""
    return export_bundle(
        SourceOptions(options.run, arch, root=options.root),
        DecisionOptions("early", target_macs=target_macs),
        ExportOptions(out, ["onnx"], quantize="int8", threads=options.threads),
    )


def rows(bundle: Bundle, point: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The time of a bundle's formats with early exits and without."""
    data = ofav2.open_run(options.run).data(options.root)
    images = test_images(data, bundle.config.resolution, max(IMAGES.values()))
    figures, measured = bundle.verification["measured"]["decision"], []
    for name in bundle.formats:
        runner = bundle.runner(name, options.threads)
        for size, n in IMAGES.items():
            pairs = [compare_speed(runner.answer, runner.whole, images[:n], size) for _ in range(options.rounds)]
            early, full = (statistics.median(times) for times in zip(*pairs, strict=True))
            measured.append(
                {
                    "point": point,
                    "format": name,
                    "batch_size": size,
                    "exits": [exit.number for exit in bundle.config.exits],
                    "shares": figures["shares"],
                    "top1": bundle.verification["measured"]["top1"][name],
                    "full_top1": figures["full_network"]["top1"],
                    "macs": figures["macs"],
                    "full_macs": figures["full_network"]["macs"],
                    "early_ms": early,
                    "full_ms": full,
                    "speedup": full / early,
                }
            )
    return measured


def main() -> None:
    """Measure, write the results, print them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="a finished training of a supernet with early exits")
    parser.add_argument("--root", type=Path, help="where the dataset is now; default: where it was")
    parser.add_argument("--arch", type=Path, help="an architecture as JSON; default: the largest one")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        arch = options.arch or Path(temporary) / "largest.json"
        if options.arch is None:
            net = ofav2.open_run(options.run).supernet()
            arch.write_text(json.dumps(net.space.max_arch()))
        bundle = export(options, Path(temporary) / "equal", arch)
        results += rows(bundle, "equal accuracy", options)
        environment = bundle.verification["measured"]["environment"]
        for share in SHARES:
            target = share * results[0]["full_macs"]
            try:
                bundle = export(options, Path(temporary) / f"{share}", arch, target)
            except UserError as error:  # the first exit alone costs more
                print(f"{share:.0%} of the MACs: {error}")
                continue
            results += rows(bundle, f"{share:.0%} of the MACs", options)
    write_json(RESULTS, {"date": time.strftime("%Y-%m-%d"), "environment": environment, "rows": results})
    print("| point | format | batch | top-1, full | top-1, early | MACs | ms, full | ms, early | faster by |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in results:
        print(
            f"| {row['point']} | {row['format']} | {row['batch_size']} | {row['full_top1']:.2f} | {row['top1']:.2f} "
            f"| {row['macs'] / row['full_macs']:.0%} | {row['full_ms']:.3f} | {row['early_ms']:.3f} "
            f"| {row['speedup']:.2f} x |"
        )


if __name__ == "__main__":
    main()
