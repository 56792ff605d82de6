"""Exporter `executorch`: a program for phones and embedded devices (extra `executorch`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .base import Exporter, Runner, exported_program

if TYPE_CHECKING:
    from torch import Tensor, nn


class ExecuTorch(Exporter):
    """An ExecuTorch program (.pte).

    Args:
        xnnpack: Run what can be run by XNNPACK, which is fast on ARM and x86 processors; else by portable kernels.
    """

    suffix = "pte"
    requires = runtime = ("executorch",)
    extra = "executorch"

    def __init__(self, xnnpack: bool = True):
        self.xnnpack = xnnpack

    def export(
        self,
        net: nn.Module,
        example: Tensor,
        path: Path,
        input_name: str = "images",
        output_names: Sequence[str] = ("logits",),
    ) -> None:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        partitioners = [XnnpackPartitioner()] if self.xnnpack else []
        edge = to_edge_transform_and_lower(exported_program(net, example), partitioner=partitioners)
        path.write_bytes(edge.to_executorch().buffer)

    def runner(self, path: Path, threads: int | None = None) -> Runner:
        import torch
        from executorch.runtime import Runtime

        method = Runtime.get().load_program(path).load_method("forward")

        def run(x: np.ndarray) -> list[np.ndarray]:
            return [y.numpy().copy() for y in method.execute([torch.from_numpy(np.ascontiguousarray(x))])]

        return run
