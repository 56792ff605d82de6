"""The networks that are measured after a step, and the measurements of earlier sessions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .. import registry
from ..errors import RunError
from ..evaluation.accuracy import Evaluator
from ..evaluation.candidates import Candidate, by_trunk, candidates, final_candidates
from ..recipes.schema import Recipe
from ..training.checkpoints import StepFiles
from ..training.plan import PlannedStep
from ..training.run_config import RunConfig
from .records import read_measured


def measured_candidates(config: RunConfig, planned: PlannedStep, evaluator: Evaluator, last: bool) -> list[Candidate]:
    """The networks measured after a step, or a seeded sample of them.

    After the last step, this is the full uniform grid of the unlocked space. After other steps, it is the extremes of
    that grid, with all values of the dimensions that the step unlocks.
    """
    settings, ensemble = config.recipe.evaluation, planned.phase.multi_exit_loss
    if last and not ensemble:
        return final_candidates(
            planned.space,
            evaluator.resolutions,
            trunks=settings.final_trunks,
            seed_parts=(config.seed, "final"),
        )
    return candidates(
        planned.space,
        evaluator.resolutions,
        full=tuple(planned.unlocks) if planned.phase.whole_grid else (),
        ensemble=ensemble,
        limit=settings.max_subnets,
        seed_parts=(config.seed, planned.name, "measure"),
    )


def measuring_settings(recipe: Recipe, n_exits: int) -> dict[str, Any]:
    """The inputs of measured accuracies other than weights, data and architectures."""
    return {
        **recipe.evaluation.model_dump(include={"batch_size", "bn_images", "latency_batch"}, exclude_none=True),
        "augmentation": [registry.config_of(registry.AUGMENTATIONS, plugin) for plugin in recipe.augmentations],
        **({"output": recipe.exit_weights.output} if n_exits > 1 else {}),
    }


def measured_before(
    files: StepFiles, name: str, settings: dict[str, Any], groups: Sequence[Sequence[Candidate]]
) -> tuple[dict[str, Any], int]:
    """The record of an earlier session with the same settings, and the number of leading `groups` that it covers.

    Args:
        files: The files of the step.
        name: Name of the record.
        settings: See `measuring_settings`.
        groups: The networks to measure, by trunk.
    """
    nothing: dict[str, Any] = {"settings": settings, "subnets": [], "seconds": 0.0}
    if not (files.folder / name).exists():
        return nothing, 0
    try:
        record = read_measured(files.folder, name)
    except RunError as error:
        files.say(f"{error}; the subnets of this step are measured again")
        return nothing, 0
    found = by_trunk([Candidate(s["arch"], s["resolution"], s["ensemble"]) for s in record["subnets"]])
    same = record["settings"] == json.loads(json.dumps(settings)) and found == list(groups[: len(found)])
    return (record, len(found)) if same else (nothing, 0)
