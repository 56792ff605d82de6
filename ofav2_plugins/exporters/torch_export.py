"""Exporter `torch_export`: a `torch.export` archive, which torch runs without this package."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .base import Exporter, Runner, exported_program, torch_runner

if TYPE_CHECKING:
    from torch import Tensor, nn


class TorchExport(Exporter):
    """A torch.export archive (.pt2), to be loaded by `torch.export.load(file).module()`."""

    suffix = "pt2"

    def export(
        self,
        net: nn.Module,
        example: Tensor,
        path: Path,
        input_name: str = "images",
        output_names: Sequence[str] = ("logits",),
    ) -> None:
        import torch

        buffer = io.BytesIO()  # torch's own writer aborts the process if the disk is full
        torch.export.save(exported_program(net, example), buffer)
        path.write_bytes(buffer.getvalue())

    def runner(self, path: Path, threads: int | None = None) -> Runner:
        import torch

        return torch_runner(torch.export.load(path).module())
