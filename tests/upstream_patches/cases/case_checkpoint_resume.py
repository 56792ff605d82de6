from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
from case_tools import run_manager, small_net
from ofa.imagenet_classification.elastic_nn.training import load_models

SYMPTOM = r"AssertionError: not resumed"


def run(folder: Path) -> None:
    trained = run_manager(folder, small_net())
    assert trained.load_model() == {}  # nothing there yet
    trained.best_acc = -1.0  # whatever accuracy comes is better, and numpy's
    trained.train(Namespace(teacher_model=None))
    resumed = run_manager(folder, small_net())
    assert resumed.load_model(), "not resumed"
    assert (resumed.start_epoch, resumed.best_acc) == (1, trained.best_acc)
    weights = resumed.network.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in trained.network.state_dict().items())
    assert torch.load(folder / "run/checkpoint/checkpoint.pth.tar")["best_acc"] == trained.best_acc

    old = folder / "old.pth"  # as saved without the patch
    torch.save({"state_dict": weights, "best_acc": np.float64(7)}, old)
    resumed.load_model(str(old))
    assert resumed.best_acc == 7
    load_models(resumed, resumed.network, str(old))

    (folder / "broken.pth").write_text("no checkpoint")
    for name in ("broken.pth", "absent.pth"):
        try:
            resumed.load_model(str(folder / name))
        except Exception as error:
            assert isinstance(error, FileNotFoundError) == (name == "absent.pth"), repr(error)
        else:
            raise AssertionError(f"no error from {name}")
