"""Exporter `executorch`: a program for phones and embedded devices (extra `executorch`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError
from .base import Exporter, Runner, exported_program

if TYPE_CHECKING:
    from torch import Tensor, nn


class ExecuTorch(Exporter):
    """An ExecuTorch program (.pte).

    Args:
        xnnpack: Use XNNPACK, which is fast on ARM and x86 processors, for all operators it supports; otherwise portable
            kernels.
        max_batch: Largest batch of one call of the program; memory is reserved for it. `runner` accepts any batch size.

    Raises:
        UserError: `max_batch` is below 1.
    """

    suffix = "pte"
    requires = runtime = ("executorch",)
    extra = "executorch"

    def __init__(self, xnnpack: bool = True, max_batch: int = 16):
        if max_batch < 1:
            raise UserError(f"max_batch must be at least 1, but got {max_batch}")
        self.xnnpack, self.max_batch = xnnpack, max_batch

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
        program = exported_program(net, example, self.max_batch)
        edge = to_edge_transform_and_lower(program, partitioner=partitioners)
        path.write_bytes(edge.to_executorch().buffer)

    def runner(self, path: Path, threads: int | None = None) -> Runner:
        import torch
        from executorch.runtime import Runtime

        method = Runtime.get().load_program(path).load_method("forward")
        largest = method.metadata.input_tensor_meta(0).sizes()[0]

        def run(x: np.ndarray) -> list[np.ndarray]:
            images = torch.from_numpy(np.ascontiguousarray(x))
            parts = [[y.numpy().copy() for y in method.execute([part])] for part in images.split(largest)]
            return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

        return run
