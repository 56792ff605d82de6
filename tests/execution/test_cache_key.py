"""What a trained step depends on: recipes that train other weights give other step folders."""

from __future__ import annotations

import pytest

from ofav2_plugins.execution.training_run import TrainingRun
from ofav2_plugins.recipes.schema import load_recipe
from ofav2_plugins.training.run_config import RunConfig
from ofav2_plugins.utils.distributed import make_fabric


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("idle_parameters=keep", True),
        ("idle_parameters=momentum", False),
        ("evaluation.max_subnets=1", True),
        ("sync_batch_norm=false", True),
        ("sync_batch_norm=true", False),
    ],
)
def test_what_changes_the_weights_changes_every_step_folder(data, tmp_path, override, same):
    def folders(*overrides: str) -> list[str]:
        config = RunConfig("a", "SE_B", load_recipe("quick", list(overrides)), 0)
        return [folder.name for folder in TrainingRun(config, data, tmp_path, make_fabric("cpu")).folders.values()]

    before, after = folders(), folders(override)
    assert len(before) == len(after) > 3
    assert all((a == b) == same for a, b in zip(before, after, strict=True))
