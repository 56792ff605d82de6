from pathlib import Path

from case_tools import run_manager, small_net
from ofa.utils import cross_entropy_loss_with_soft_target

SYMPTOM = r"AssertionError: no mixup"


def run(folder: Path) -> None:
    for alpha in (0.5, 1):
        manager = run_manager(folder, small_net(), mixup_alpha=alpha)
        assert manager.train_criterion is cross_entropy_loss_with_soft_target, "no mixup"
        assert manager.run_config.config["mixup_alpha"] == alpha
    for off in (None, 0):
        manager = run_manager(folder, small_net(), mixup_alpha=off)
        assert manager.train_criterion is not cross_entropy_loss_with_soft_target
