from pathlib import Path

from ofa.nas.efficiency_predictor import MBv3LatencyTable, ProxylessNASLatencyTable
from ofa.tutorial.latency_table import LatencyEstimator

SYMPTOM = r"TypeError: load\(\) missing 1 required positional argument: 'Loader'"


def run(folder: Path) -> None:
    table = folder / "table.yaml"
    table.write_text("Logits-input:1x1x1280-output:1000: {count: 3, mean: 0.25}\n")
    for reader in (MBv3LatencyTable, ProxylessNASLatencyTable, LatencyEstimator):
        assert reader(url=str(table)).query("Logits", [1, 1, 1280], [1000]) == 0.25
