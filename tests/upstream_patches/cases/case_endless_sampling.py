import json
from pathlib import Path

from case_tools import run_manager, small_net, time_limit
from ofa.nas.accuracy_predictor import AccuracyDataset

SYMPTOM = r"TimeoutError"


def run(folder: Path) -> None:
    net = small_net(ks_list=3, expand_ratio_list=3, depth_list=1)  # one architecture
    manager = run_manager(folder, net)
    dataset = AccuracyDataset(str(folder / "accuracies"))
    try:
        with time_limit(3):
            dataset.build_acc_dataset(manager, net, n_arch=2, image_size_list=[32])
    except ValueError as error:
        assert "no more than 1 different" in str(error)
    else:
        raise AssertionError("two architectures from a space of one")
    dataset.build_acc_dataset(manager, net, n_arch=1, image_size_list=[32])
    assert len(json.loads(Path(dataset.net_id_path).read_text())) == 1
    assert len(dataset.merge_acc_dataset()) == 1
