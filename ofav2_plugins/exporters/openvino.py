"""Exporter `openvino`: OpenVINO's intermediate representation (extra `openvino`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .base import Exporter, Runner, exported_program

if TYPE_CHECKING:
    from torch import Tensor, nn


class OpenVino(Exporter):
    """OpenVINO's intermediate representation: an .xml file with its weights in a .bin file next to it."""

    suffix = "xml"
    companions = ("bin",)
    requires = runtime = ("openvino",)
    extra = "openvino"

    def export(
        self,
        net: nn.Module,
        example: Tensor,
        path: Path,
        input_name: str = "images",
        output_names: Sequence[str] = ("logits",),
    ) -> None:
        import openvino

        model = openvino.convert_model(exported_program(net, example))
        model.inputs[0].get_node().set_friendly_name(input_name)
        for output, name in zip(model.outputs, output_names, strict=True):
            output.get_tensor().set_names({name})
        openvino.save_model(model, path, compress_to_fp16=False)

    def runner(self, path: Path, threads: int | None = None) -> Runner:
        import openvino

        settings = {"INFERENCE_PRECISION_HINT": "f32"}  # default: bfloat16 if the processor supports it
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = str(threads)
        model = openvino.Core().compile_model(path, "CPU", settings)

        def run(x: np.ndarray) -> list[np.ndarray]:
            return [y.copy() for y in model([np.ascontiguousarray(x)]).to_tuple()]

        return run
