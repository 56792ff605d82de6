"""Exporter `onnx`: an ONNX file, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError
from .base import Exporter, Runner

if TYPE_CHECKING:
    from torch import Tensor, nn

OPSETS = range(18, 24)


class Onnx(Exporter):
    """An ONNX file.

    Args:
        opset: Version of the operator set, 18 to 23; older runtimes need a lower one.

    Raises:
        UserError: `opset` is not one of those.
    """

    suffix = "onnx"
    requires = ("onnx", "onnxscript", "onnxruntime")
    runtime = ("onnxruntime",)
    extra = "export"

    def __init__(self, opset: int = 18):
        if opset not in OPSETS:
            raise UserError(f"opset must be in {OPSETS.start}..{OPSETS.stop - 1}, but got {opset}")
        self.opset = opset

    def export(
        self,
        net: nn.Module,
        example: Tensor,
        path: Path,
        input_name: str = "images",
        output_names: Sequence[str] = ("logits",),
    ) -> None:
        import torch
        from torch.export import Dim

        torch.onnx.export(
            net,
            (example,),
            path,
            dynamo=True,
            dynamic_shapes=({0: Dim("batch")},),
            input_names=[input_name],
            output_names=list(output_names),
            opset_version=self.opset,
            external_data=False,
            verbose=False,
        )

    def runner(self, path: Path, threads: int | None = None) -> Runner:
        session = onnx_session(path, threads)
        [name] = [entry.name for entry in session.get_inputs()]

        def run(x: np.ndarray) -> list[np.ndarray]:
            outputs: list[np.ndarray] = session.run(None, {name: np.ascontiguousarray(x)})
            return outputs

        return run


def onnx_session(path: Path, threads: int | None = None, optimized: Path | None = None) -> Any:
    """An ONNX Runtime session on the CPU.

    Args:
        path: The ONNX file.
        threads: CPU threads; default: ONNX Runtime's own choice.
        optimized: File for the executed graph, after all fusions.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    if threads is not None:
        options.intra_op_num_threads = threads
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
