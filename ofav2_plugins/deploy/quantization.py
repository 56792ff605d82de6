"""Static int8 quantization of ONNX files by ONNX Runtime: per channel, calibrated on training images."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..exporters.onnx import onnx_session


def quantize_onnx(path: Path, out: Path, batches: Sequence[np.ndarray]) -> None:
    """Write the int8 version of an ONNX file.

    Args:
        path: The file in fp32, batch norms folded.
        out: The file to write.
        batches: Inputs [n, ...] that set the range of every activation.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            out,
            _Reader(path, batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )


class _Reader:
    """Batches in the form that ONNX Runtime's calibration reads."""

    def __init__(self, path: Path, batches: Sequence[np.ndarray]):
        self.name = onnx_session(path).get_inputs()[0].name
        self.batches: Iterator[np.ndarray] = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {self.name: batch}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the advice that ONNX Runtime's quantization logs and prints."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def float_operators(path: Path) -> dict[str, int]:
    """Number of operators of each kind that ONNX Runtime computes in float on this machine, after its fusions."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        onnx_session(path, optimized=optimized)
        graph = onnx.load(optimized).graph
    kept: Counter[str] = Counter()
    integers: set[str] = set()
    for node in graph.node:  # in topological order
        if node.op_type in ("QuantizeLinear", "QGemm") or node.op_type.startswith("QLinear"):
            integers.update(node.output)
        elif node.op_type in _MOVES and node.input[0] in integers:
            integers.update(node.output)
        elif node.op_type != "DequantizeLinear" and node.op_type not in _MOVES:
            kept[node.op_type] += 1
    return dict(sorted(kept.items()))


_MOVES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "MaxPool", "Identity"})
"""Operators that move values of any type without computing."""


def calibration_inputs(segments: Sequence[Any], batches: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """The inputs of each segment of a chain when all images pass through all of it."""
    inputs = [list(batches)]
    for segment in segments[:-1]:
        inputs.append([segment(batch)[0] for batch in inputs[-1]])
    return inputs
