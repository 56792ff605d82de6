from pathlib import Path

from case_tools import run_manager, small_net
from ofa.imagenet_classification.elastic_nn.training import validate

SYMPTOM = r"KeyError: 'image_size'"


def run(folder: Path) -> None:
    manager = run_manager(folder, small_net())
    setting = {"d": 1, "e": 3, "ks": 3, "image_size": 32}
    for epoch in range(2):
        *_, log = validate(
            manager,
            epoch,
            image_size_list=[32],
            ks_list=[3],
            expand_ratio_list=[3],
            depth_list=[1],
            additional_setting=[[setting, "ours"]],
        )
        assert "ours" in log
    assert setting == {"d": 1, "e": 3, "ks": 3, "image_size": 32}
