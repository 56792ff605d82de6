"""Contract of `ofav2.exporters`: writes a static network to a file and runs that file.

Modules of this namespace import torch only to export: running a file may not need it.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError
from ..plugin import Plugin

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

Runner = Callable[[np.ndarray], list[np.ndarray]]
"""Runs an exported network: its input [N, ...] to its outputs, each [N, ...]."""


class Exporter(Plugin, ABC):
    """Writes a network to a file with a dynamic batch size, and runs the file with the format's own runtime."""

    suffix: str = ""
    """Suffix of the file, without the dot."""
    companions: tuple[str, ...] = ()
    """Suffixes of further files that are written next to it."""
    requires: tuple[str, ...] = ()
    """Modules that must be installed to write the file."""
    runtime: tuple[str, ...] = ()
    """Modules that must be installed to run the file."""
    extra: str = ""
    """The extra of the package that installs them."""

    @abstractmethod
    def export(
        self,
        net: nn.Module,
        example: Tensor,
        path: Path,
        input_name: str = "images",
        output_names: Sequence[str] = ("logits",),
    ) -> None:
        """Write a network to `path`.

        Args:
            net: A network of plain torch layers in evaluation mode with one input.
            example: An input [N, ...] with N > 1; the exported network accepts any N of at least 1.
            path: The file.
            input_name: Name of the input in the file, if the format has names.
            output_names: Names of the outputs in the file, in the order in which the network returns them.
        """

    @abstractmethod
    def runner(self, path: Path, threads: int | None = None) -> Runner:
        """A function that runs an exported file on the CPU.

        Args:
            path: The file.
            threads: CPU threads; default: the runtime's own choice.
        """

    def can_run(self) -> bool:
        """Whether the runtime of the format is installed."""
        return not _missing(self.runtime)

    def check_installed(self, to_export: bool = False) -> None:
        """Raises UserError, with the command that installs it, if a module is missing to run files, or to export."""
        if missing := _missing(self.requires if to_export else self.runtime):
            raise UserError(
                f"format {self.name!r} needs {', '.join(missing)}: pip install 'ofav2-plugins[{self.extra}]'"
            )


def _missing(modules: Sequence[str]) -> list[str]:
    return [module for module in modules if importlib.util.find_spec(module) is None]


def torch_runner(net: nn.Module) -> Runner:
    """A runner for a torch module that returns one or several tensors."""
    import torch

    @torch.no_grad()
    def run(x: np.ndarray) -> list[np.ndarray]:
        y = net(torch.from_numpy(x))
        return [part.numpy() for part in (y if isinstance(y, (tuple, list)) else [y])]

    return run


def exported_program(net: nn.Module, example: Tensor, max_batch: int | None = None) -> ExportedProgram:
    """A network as a torch.export program that accepts batches of any size, or of at most `max_batch` images."""
    import torch
    from torch.export import Dim

    batch = Dim("batch", min=1, max=max_batch)
    with torch.no_grad():
        return torch.export.export(net, (example,), dynamic_shapes=({0: batch},))
