"""Reading bundles, checking their files, and running their networks in any of their formats."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from .. import registry
from ..errors import RunError, UserError
from ..exporters.base import Exporter, torch_runner
from ..utils.files import read_record
from .bundle_config import CONFIG, VERIFICATION, WEIGHTS, BundleConfig, ModelFiles
from .early_exit import Answers, ExitPolicy, Segment, run_chain

if TYPE_CHECKING:
    from .network import DeployedNetwork


class _Verification(BaseModel):
    """verification.json."""

    model_config = ConfigDict(extra="allow", strict=True)

    verified: dict[str, Any]
    measured: dict[str, Any]
    sha256: dict[str, str]


EAGER = "torch"
"""The format that needs only the weight file: torch itself."""


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk.

    Args:
        folder: Its folder.
        config: Its configuration.
        verification: Results of the verification and measurements at export.
        sha256: Digest of each of its files.
    """

    folder: Path
    config: BundleConfig
    verification: dict[str, Any]
    sha256: dict[str, str]

    @property
    def formats(self) -> list[str]:
        """The formats in which the network can be run."""
        return [*self.config.models, EAGER]

    def checked(self, name: str) -> Path:
        """The path of one of its files. Raises RunError if the file is missing or differs from the verified one."""
        return _checked(self.folder, name, self.sha256)

    @cached_property
    def network(self) -> DeployedNetwork:
        """The network as a torch module in evaluation mode."""
        import safetensors.torch

        from ..models.subnet import build_subnet
        from .network import DeployedNetwork

        net = build_subnet(self.config.network)
        net.load_state_dict(safetensors.torch.load_file(self.checked(WEIGHTS)))
        return DeployedNetwork(net, self.config).eval()

    def runner(self, format: str, threads: int | None = None) -> BundleRunner:
        """The network in one of its formats, ready to run; see `BundleRunner`.

        Raises:
            UserError: The bundle does not have the format, or its runtime is not installed.
            RunError: A file is missing or damaged.
        """
        if format not in self.formats:
            raise UserError(f"format must be one of {', '.join(self.formats)} for {self.folder}, but got {format!r}")
        return BundleRunner(self, format, threads)

    def runnable_formats(self) -> list[str]:
        """The formats whose runtime is installed."""
        return [*(name for name, model in self.config.models.items() if exporter_of(model).can_run()), EAGER]

    def best_format(self) -> str:
        """ "onnx" if the bundle has it and its runtime is installed, else "torch"."""
        return "onnx" if "onnx" in self.runnable_formats() else EAGER


class BundleRunner:
    """The network of a bundle in one format.

    Args:
        bundle: The bundle.
        format: One of its formats.
        threads: CPU threads (for torch, of the whole process); default: the runtime's own choice.
    """

    def __init__(self, bundle: Bundle, format: str, threads: int | None = None):
        self.bundle, self.format, self.threads = bundle, format, threads
        self.policy = ExitPolicy.of(bundle.config)
        if format == EAGER and threads is not None:
            import torch

            torch.set_num_threads(threads)
        elif format != EAGER:
            exporter_of(bundle.config.models[format]).check_installed()

    @cached_property
    def chain(self) -> list[Segment]:
        """The segments to run; only one if the network has no early exits."""
        if self.format == EAGER:
            return [torch_runner(segment) for segment in self.bundle.network.chain()]
        model = self.bundle.config.models[self.format]
        return [self._load(name) for name in model.segments or [model.file]]

    @cached_property
    def whole(self) -> Segment:
        """The whole network, without leaving early."""
        if self.format == EAGER:
            return torch_runner(self.bundle.network.whole())
        return self._load(self.bundle.config.models[self.format].file)

    def answer(self, images: np.ndarray) -> Answers:
        """Logits, calibrated probabilities and the exit taken for images [N, 3, r, r]."""
        return run_chain(self.chain, self.policy, images)

    def _load(self, name: str) -> Segment:
        exporter = exporter_of(self.bundle.config.models[self.format])
        for suffix in exporter.companions:
            self.bundle.checked(str(Path(name).with_suffix(f".{suffix}")))
        return exporter.runner(self.bundle.checked(name), self.threads)


def exporter_of(model: ModelFiles) -> Exporter:
    """The plugin that wrote a model's files."""
    exporter: Exporter = registry.load(registry.EXPORTERS, model.exporter)
    return exporter


def sha256(path: Path) -> str:
    """The SHA-256 digest of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _checked(folder: Path, name: str, digests: Mapping[str, str]) -> Path:
    path = folder / name
    if not path.is_file():
        raise RunError(f"bundle {folder} is incomplete: {name} is missing; copy all of its files or export it again")
    if sha256(path) != digests.get(name):
        raise RunError(
            f"bundle {folder} is damaged: {name} is not the file that was verified; copy the bundle or export it again"
        )
    return path


def open_bundle(folder: str | Path) -> Bundle:
    """Open a bundle that `ofav2 export` wrote.

    Raises:
        RunError: The folder is not a bundle, is incomplete, or its configuration is damaged.
    """
    folder = Path(folder)
    if not (folder / VERIFICATION).is_file():
        raise RunError(f"{folder} is not a bundle of `ofav2 export`: {VERIFICATION} is missing; export it again")
    try:
        verification = read_record(folder / VERIFICATION, _Verification)
    except RunError as error:
        raise RunError(f"{error}; copy the bundle again or export it again") from error
    digests = verification["sha256"]
    try:
        config = BundleConfig.model_validate_json(_checked(folder, CONFIG, digests).read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise RunError(
            f"{folder / CONFIG} was written by another version: {field}: {first['msg']}; export it again"
        ) from error
    return Bundle(folder, config, verification, digests)


def load_bundle(folder: str | Path) -> DeployedNetwork:
    """The network of a bundle as a torch module in evaluation mode: images [N, 3, r, r] to logits [N, n_classes].

    The module has `class_names` and `preprocess(path)`, which converts an image file to the network's input.

    Raises:
        RunError: The folder is not a bundle, or a file is missing or damaged.
    """
    return open_bundle(folder).network
