from pathlib import Path

import numpy as np
import torch
from ofa.tutorial import FLOPsTable

SYMPTOM = r"NVIDIA|CUDA"


def run(folder: Path) -> None:
    np.save(folder / "table.npy", {})  # type: ignore[arg-type]
    table = FLOPsTable("latency", device="cpu", load_efficiency_table=folder / "table.npy")
    layer = torch.nn.Conv2d(3, 8, 3)
    assert table.measure_single_layer_latency(layer, (1, 3, 16, 16), warmup_steps=1, measure_steps=2) > 0
