"""The model card of a bundle in Markdown: description, accuracy, latency, training, versions and digests."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ..models.spec import supernet_label
from ..plugin import describe_reference
from ..utils.files import write_atomically
from .bundle import sha256
from .bundle_config import INT8, BundleConfig
from .decision import Decision
from .source import Source


def write_card(path: Path, config: BundleConfig, source: Source, decision: Decision, measured: dict[str, Any]) -> None:
    """Write the card of the bundle in the folder of `path`."""
    parts = [
        _head(config, source, measured),
        _accuracy(config, measured),
        _early_exit(config, measured) if config.output == "early" else "",
        _ensemble(measured) if config.output == "ensemble" else "",
        _latency(measured),
        _int8(measured) if "int8" in measured else "",
        _input(config),
        _training(source),
        _versions(measured),
        _files(path.parent),
    ]
    write_atomically(path, "\n\n".join(part for part in parts if part).encode() + b"\n")


def _head(config: BundleConfig, source: Source, measured: dict[str, Any]) -> str:
    answers = {
        "last": f"Exit {config.exits[-1].number} gives the prediction.",
        "ensemble": f"The weighted sum of the logits of exits {_listed(config.ensemble or [])} gives the prediction.",
        "early": f"The first confident exit of {_listed(e.number for e in config.exits)} gives the prediction.",
    }[config.output]
    size = config.resolution
    return (
        f"# {source.data.name}: a subnet of {supernet_label(source.run.config.supernet)}\n\n"
        f"A classifier of {size} x {size} pixel images into {len(config.class_names)} classes, extracted from a "
        f"once-for-all supernet. {answers}\n\n"
        + _table(
            ("test accuracy", "MACs of an image", "parameters"),
            [(f"{measured['decision']['top1']:.2f} %", _count(measured["macs"]), _count(measured["params"]))],
        )
        + f"\n\nMeasured on {len(source.data.test)} test images. Licence of the data and of this model: not "
        "stated; add yours here."
    )


def _accuracy(config: BundleConfig, measured: dict[str, Any]) -> str:
    figures = measured["decision"]
    lines = [f"- Expected calibration error on the test images: {figures['ece']:.3f}"]
    if "ece_uncalibrated" in figures:
        lines[0] += f" ({figures['ece_uncalibrated']:.3f} without temperature scaling)"
    lines.append(f"- Accuracy on the validation images: {figures['val_top1']:.2f} %")
    return "## Accuracy\n\n" + "\n".join(lines)


def _early_exit(config: BundleConfig, measured: dict[str, Any]) -> str:
    figures = measured["decision"]
    full = figures["full_network"]
    shares = {exit.number: share for exit, share in zip(config.exits, figures["shares"], strict=True)}
    rows = [
        (
            row["number"],
            f"{row['top1']:.2f} %",
            f"{row['ece']:.3f} ({row['ece_uncalibrated']:.3f})",
            f"{100 * shares[row['number']]:.1f} %" if row["number"] in shares else "removed",
        )
        for row in figures["exits"]
    ]
    threshold = next((f"{exit.threshold:.4g}" for exit in config.exits if exit.threshold is not None), "none")
    text = (
        f"## Early exits\n\nConfidence: {describe_reference(config.exit_rule)}, threshold {threshold}, chosen on the "
        f"validation images.\n\n"
        + _table(("exit", "accuracy of all images", "calibration error (before)", "images that leave here"), rows)
        + "\n\n"
        + _table(
            ("", "test accuracy", "mean MACs of an image"),
            [
                ("early exits", f"{figures['top1']:.2f} %", _count(figures["macs"])),
                ("full network", f"{full['top1']:.2f} %", _count(full["macs"])),
            ],
        )
    )
    if speeds := measured.get("early_exit_speed"):
        timed = [
            (name, row["batch_size"], f"{row['early_ms']:.3f}", f"{row['full_ms']:.3f}", f"{row['speedup']:.2f} x")
            for name, listed in speeds.items()
            for row in listed
        ]
        text += "\n\nMeasured on test images, alternating:\n\n" + _table(
            ("format", "batch", "ms an image, early exits", "ms an image, full network", "faster by"), timed
        )
    return text


def _ensemble(measured: dict[str, Any]) -> str:
    figures = measured["decision"]
    rows = [
        (_listed(row["exits"]), f"{row['val_top1']:.2f} %", _count(row["macs"])) for row in figures["sets_of_exits"][:8]
    ]
    return (
        "## Exit pruning\n\nEvery set of exits was evaluated as an ensemble on the validation images. The best ones:"
        "\n\n"
        + _table(("exits", "validation accuracy", "MACs"), rows)
        + f"\n\nThe last exit alone: {figures['last_exit']['val_top1']:.2f} % on validation, "
        f"{figures['last_exit']['top1']:.2f} % on the test images."
    )


def _latency(measured: dict[str, Any]) -> str:
    machine = measured["environment"]
    rows = [
        (name, row["batch_size"], *(f"{row[f'p{p}_ms']:.2f}" for p in (50, 90, 99)), f"{row['images_per_second']:.0f}")
        for name, listed in measured["latency"].items()
        for row in listed
    ]
    return (
        f"## Latency\n\nThe full network, without early exits, on {machine['processor']}, {machine['threads']} "
        f"thread(s), {machine['date']}; milliseconds of a batch.\n\n"
        + _table(("format", "batch", "median", "90 %", "99 %", "images/s"), rows)
    )


def _int8(measured: dict[str, Any]) -> str:
    figures = measured["int8"]
    kept = ", ".join(f"{count} {kind}" for kind, count in figures["float_operators"].items()) or "none"
    rows = [("fp32", f"{figures['fp32_val_top1']:.2f} %", f"{measured['top1']['onnx']:.2f} %")]
    if figures["rejected"]:
        rows.append(("int8", f"{figures['val_top1']:.2f} %", "rejected"))
    else:
        rows.append(("int8", f"{figures['val_top1']:.2f} %", f"{measured['top1'][INT8]:.2f} %"))
    text = (
        "## int8\n\nStatic quantization per channel, calibrated on training images, batch norms folded.\n\n"
        + _table(("", "validation accuracy", "test accuracy"), rows)
        + f"\n\nOperators that ONNX Runtime computes in float: {kept}."
    )
    if figures["rejected"]:
        text += f"\n\nThe int8 files were removed: {figures['rejected']}."
    return text


def _input(config: BundleConfig) -> str:
    p = config.preprocessing
    return (
        f"## Input\n\n1. Decode to {p.mode}, apply the EXIF orientation. Resize the shorter side to "
        f"{p.stored} (bilinear, antialiased), crop the centre {p.stored} x {p.stored}, 8 bits.\n"
        f"2. Resize to {p.resize} x {p.resize} (bilinear, antialiased, in float), crop the centre {p.crop} x {p.crop}."
        "\n"
        f"3. Divide by 255, subtract {list(p.mean)}, divide by {list(p.std)}.\n\n"
        f"Classes: {', '.join(config.class_names)}."
    )


def _training(source: Source) -> str:
    stream = io.StringIO()
    recipe = source.run.config.recipe.model_dump(mode="json", exclude_none=True)
    YAML(typ="safe").dump({"recipe": recipe, "seed": source.run.config.seed, **source.training}, stream)
    return (
        f"## Training\n\nData: {describe_reference(source.run.dataset)}, fingerprint `{source.data.fingerprint}`; "
        f"{len(source.data.train)} training, {len(source.data.validation)} validation, {len(source.data.test)} test "
        f"images.\n\n```yaml\n{stream.getvalue()}```"
    )


def _versions(measured: dict[str, Any]) -> str:
    environment = measured["environment"]
    other = ("processor", "cpus", "threads", "date", "device", "processes", "precision")
    rows = [(name, value) for name, value in environment.items() if name not in other]
    return "## Versions\n\n" + _table(("", "version"), rows)


def _files(folder: Path) -> str:
    rows = [(path.name, f"{path.stat().st_size / 2**20:.2f}", f"`{sha256(path)}`") for path in sorted(folder.iterdir())]
    return "## Files\n\n" + _table(("file", "MiB", "SHA-256"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _count(n: float) -> str:
    """ "12.3 M"."""
    return f"{n / 1e6:.2f} M" if n >= 1e5 else f"{n:.0f}"
