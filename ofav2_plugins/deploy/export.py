"""Export of a trained subnet as a bundle, which gets its final name only after it is verified."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors.torch
import torch
from filelock import FileLock, Timeout
from torch import nn

from .. import registry
from ..errors import DiskError, RunError, UserError
from ..exporters.base import Exporter
from ..models.batch_norm import fold_bn
from ..models.spec import resolve_spec
from ..plugin import to_reference
from ..utils.files import write_atomically, write_json, write_record
from .bundle import Bundle, open_bundle, sha256
from .bundle_config import CARD, CONFIG, INT8, VERIFICATION, WEIGHTS, BundleConfig, ModelFiles
from .card import write_card
from .decision import Decision, DecisionOptions, decide
from .measure import measure_bundle
from .network import DeployedNetwork
from .preprocessing import Preprocessing
from .quantization import calibration_inputs, quantize_onnx
from .segments import keep_exits, split_at_exits
from .source import Source, SourceOptions, open_source
from .verification import IMAGES, VerificationRequest, test_images, verify_in_fresh_process

Net = TypeVar("Net", bound=nn.Module)

FULL = 2**20
"""A disk with fewer free bytes counts as full."""


@dataclass(frozen=True)
class ExportOptions:
    """Contents of a bundle.

    Args:
        out: The bundle's folder, which must not exist.
        formats: Plugins of `ofav2.exporters`.
        quantize: "int8", or None.
        max_int8_loss: Maximum loss of accuracy by int8, in points on the validation images.
        threads: CPU threads of every measurement.

    Raises:
        UserError: A format is unknown or not installed, or int8 is requested without ONNX.
    """

    out: Path
    formats: Sequence[Any] = ("onnx", "torch_export")
    quantize: str | None = None
    max_int8_loss: float | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        names = [exporter.name for exporter in self.exporters()]
        if not names or len(set(names)) != len(names):
            raise UserError(f"--formats must be one or more different exporters, but got {names}")
        for exporter in self.exporters():
            exporter.check_installed(to_export=True)
            exporter.check_installed()
        if self.quantize not in (None, "int8"):
            raise UserError(f"--quantize must be int8, but got {self.quantize!r}")
        if self.quantize and "onnx" not in names:
            raise UserError("--quantize int8 needs the format onnx; add it to --formats")
        if self.max_int8_loss is not None and not self.quantize:
            raise UserError("--max-int8-loss needs --quantize int8")

    def exporters(self) -> list[Exporter]:
        """The exporters, with their settings."""
        return [registry.load(registry.EXPORTERS, plugin) for plugin in self.formats]


def export_bundle(
    source_options: SourceOptions,
    decision_options: DecisionOptions,
    options: ExportOptions,
    progress: Callable[[str], None] = lambda text: None,
) -> Bundle:
    """Export a subnet; the bundle gets its final name when it is complete and verified.

    Args:
        source_options: The subnet.
        decision_options: Options for the choice of its output.
        options: Formats, int8.
        progress: Called with a line of text at the start of each stage of the work.

    Raises:
        UserError: Wrong options, or a target that cannot be reached; or int8 loses too much accuracy (the bundle is
            then written without int8).
        RunError: The run or its data is damaged or has changed, or a file gives different outputs than the network.
    """
    if options.out.exists():
        raise UserError(f"--out must be a new folder, but {options.out} exists; choose another or remove it")
    torch.set_num_threads(options.threads)
    progress(f"extracting the subnet from {source_options.run} and recalibrating its batch norms")
    source = open_source(source_options, multi_exit=decision_options.output != "last")
    decision = decide(source, decision_options)
    rejected = None
    with _building(options.out) as folder:
        config = _write_network(source, decision, decision_options, folder)
        network = _network(source, decision, config)
        for exporter in options.exporters():
            progress(f"exporting {exporter.name}")
            config = _with_model(config, exporter.name, export_model(network, exporter, folder))
        if options.quantize:
            progress("quantizing to int8")
            config = _with_model(config, INT8, quantize_model(config.models["onnx"], folder, source))
        progress("measuring accuracy and latency")
        measured = measure_bundle(config, folder, source, decision, options.threads, options.max_int8_loss)
        rejected = measured.get("int8", {}).get("rejected")
        if rejected:
            config = _without_int8(config, folder)
        write_json(folder / CONFIG, config.model_dump(mode="json"))
        write_card(folder / CARD, config, source, decision, measured)
        progress("verifying every file in a fresh process")
        _verify(folder, source, decision, measured, options.threads)
    if rejected:
        raise UserError(f"{rejected}; {options.out} has the fp32 network only; allow more with --max-int8-loss")
    return open_bundle(options.out)


@contextmanager
def _building(out: Path) -> Iterator[Path]:
    """A hidden folder next to `out` that is renamed to `out` at the end, or removed.

    The folder of an export that was killed is removed first.

    Raises:
        DiskError: The disk is full or cannot be written.
        RunError: Another process is exporting to `out`, or has done so in the meantime.
    """
    folder = out.with_name(f".{out.name}.exporting")
    lock = FileLock(f"{folder}.lock")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    except Timeout as error:
        raise RunError(f"another process is exporting to {out}; wait for it, or choose another --out") from error
    except OSError as error:
        raise DiskError(f"--out {out} cannot be created: {error.strerror or error}") from error
    try:
        yield folder
        if out.exists():
            raise RunError(f"--out must be a new folder, but {out} was created during the export; choose another")
        os.rename(folder, out)
    except Exception as error:
        if shutil.disk_usage(out.parent).free < FULL:  # torch and ONNX then raise their own errors
            raise DiskError(f"the disk is full: {out} could not be written; free some space and repeat") from error
        if isinstance(error, OSError):
            raise DiskError(f"{out} cannot be written: {error.strerror or error}") from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def _write_network(source: Source, decision: Decision, options: DecisionOptions, folder: Path) -> BundleConfig:
    """Write the weights; returns the configuration without any model file."""
    kept = keep_exits(source.net, decision.numbers, multi_exit=options.output != "last")
    write_atomically(folder / WEIGHTS, safetensors.torch.save(kept.state_dict()))
    return BundleConfig(
        arch=source.arch,
        supernet=resolve_spec(source.run.config.supernet).to_dict(),
        network=kept.config,
        output=options.output,
        exits=decision.exits,
        ensemble=decision.ensemble,
        exit_rule=registry.config_of(registry.EXIT_RULES, options.rule) if options.output == "early" else None,
        preprocessing=Preprocessing.of(source.data, source.resolution),
        class_names=list(source.data.class_names),
    )


def _network(source: Source, decision: Decision, config: BundleConfig) -> DeployedNetwork:
    return DeployedNetwork(keep_exits(source.net, decision.numbers, config.output != "last"), config).eval()


def _with_model(config: BundleConfig, name: str, files: ModelFiles) -> BundleConfig:
    return config.model_copy(update={"models": {**config.models, name: files}})


def export_model(network: DeployedNetwork, exporter: Exporter, folder: Path) -> ModelFiles:
    """Write a network, batch norms folded, in one format: as a whole and, with early exits, as a chain."""
    size = network.config.resolution
    example = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    name = f"model.{exporter.suffix}"
    with registry.calling(registry.EXPORTERS, exporter.name, "export", passing=UserError):
        exporter.export(_folded(network.whole()), example, folder / name)
    segments = []
    if len(network.config.exits) > 1:
        x = example
        for number, segment in zip(network.net.exits, split_at_exits(_folded(network.net)), strict=True):
            segments.append(f"model.exit-{number}.{exporter.suffix}")
            outputs = ("logits",) if segment.last else ("next_features", "logits")
            inputs = "features" if number != next(iter(network.net.exits)) else "images"
            with registry.calling(registry.EXPORTERS, exporter.name, "export", passing=UserError):
                exporter.export(segment, x, folder / segments[-1], inputs, outputs)
            with torch.no_grad():
                x = segment.trunk(x)
    return ModelFiles(exporter=exporter.config(), file=name, segments=segments)


def _folded(net: Net) -> Net:
    copied = copy.deepcopy(net).eval()
    fold_bn(copied)
    return copied


def quantize_model(model: ModelFiles, folder: Path, source: Source) -> ModelFiles:
    """Write the int8 versions of a network's ONNX files, calibrated on training images."""
    batches = [batch.numpy() for batch in source.evaluator.calibration(source.resolution)]
    exporter = registry.load(registry.EXPORTERS, model.exporter)
    segments = [exporter.runner(folder / name) for name in model.segments]
    inputs = calibration_inputs(segments, batches) if segments else []
    for name, given in [(model.file, batches), *zip(model.segments, inputs, strict=True)]:
        quantize_onnx(folder / name, folder / _int8(name), given)
    return ModelFiles(
        exporter=model.exporter, file=_int8(model.file), segments=[_int8(n) for n in model.segments], quantized=True
    )


def _int8(name: str) -> str:
    return name.removesuffix(".onnx") + ".int8.onnx"


def _without_int8(config: BundleConfig, folder: Path) -> BundleConfig:
    model = config.models[INT8]
    for name in (model.file, *model.segments):
        (folder / name).unlink()
    return config.model_copy(update={"models": {k: v for k, v in config.models.items() if k != INT8}})


def _verify(folder: Path, source: Source, decision: Decision, measured: dict[str, Any], threads: int) -> None:
    """Verify the files in a fresh process and write verification.json."""
    digests = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    with tempfile.TemporaryDirectory() as temporary:
        reference = Path(temporary) / "reference.npy"
        np.save(reference, _reference_logits(source, decision))
        request = VerificationRequest(
            folder=str(folder),
            sha256=digests,
            dataset=to_reference(source.run.dataset),
            root=str(source.root) if source.root else None,
            validation_fraction=source.run.config.recipe.validation_fraction,
            fingerprint=source.data.fingerprint,
            reference=str(reference),
            top1=measured["top1"],
            threads=threads,
        )
        verified = verify_in_fresh_process(request)
    write_record(folder / VERIFICATION, {"verified": verified, "measured": measured, "sha256": digests})


@torch.no_grad()
def _reference_logits(source: Source, decision: Decision) -> np.ndarray:
    """The logits of the extracted network before anything was written; see `VerificationRequest`."""
    images = torch.from_numpy(test_images(source.data, source.resolution, IMAGES))
    logits = dict(zip(map(int, source.net.exits), source.net.forward_exits(images), strict=True))
    if decision.ensemble is not None:
        summed = torch.stack([weight * logits[number] for number, weight in decision.ensemble.items()]).sum(0)
        return torch.stack([summed, summed]).numpy()
    kept = [logits[number] for number in decision.numbers]
    return torch.stack([*kept, kept[-1]]).numpy()
