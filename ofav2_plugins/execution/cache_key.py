"""The cache key of a trained step: a hash of all inputs of its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from .. import registry
from ..models.spec import resolve_spec
from ..space import SearchSpace
from ..teachers.base import Teacher
from ..training.plan import INIT, PlannedStep
from ..training.run_config import RunConfig


def step_folder_names(
    config: RunConfig, plan: Sequence[PlannedStep], space: SearchSpace, data_fingerprint: str
) -> dict[str, str]:
    """The folder name of each step of a plan, consisting of the step's name and cache key.

    Args:
        config: The run.
        plan: The steps of its plan.
        space: The whole space of the supernet.
        data_fingerprint: Fingerprint of the data.
    """
    keys: dict[str, str] = {INIT: config.initial.digest} if config.initial else {}
    for planned in plan:
        inputs = cache_key_inputs(config, data_fingerprint, planned, space)
        inputs["starts_from"] = keys[planned.starts_from] if planned.starts_from else None
        inputs["teacher"] = keys[planned.teacher] if planned.teacher else None
        digest = hashlib.blake2b(json.dumps(inputs, sort_keys=True).encode(), digest_size=6)
        keys[planned.name] = digest.hexdigest()
    return {planned.name: f"{planned.name}-{keys[planned.name]}" for planned in plan}


def cache_key_inputs(
    config: RunConfig, data_fingerprint: str, planned: PlannedStep, space: SearchSpace
) -> dict[str, Any]:
    """The inputs of a trained step's result, excluding other steps; fields that the step does not use are omitted.

    Plugins are included with all of their settings, including defaults.
    """
    recipe, teacher = config.recipe, config.teacher()
    inputs: dict[str, Any] = {
        "spec": resolve_spec(config.supernet).config(),
        "space": planned.space.to_dict(),
        "phase": planned.phase.config(),
        "step": planned.step,
        "settings": vars(planned.settings),
        "seed": config.seed,
        "data": data_fingerprint,
        "recipe": recipe.model_dump(
            include={
                "width_mult",
                "resolutions",
                "batch_size",
                "label_smoothing",
                "zero_last_gamma",
                "idle_parameters",
            }
        ),
        "optimizer": registry.config_of(registry.OPTIMIZERS, recipe.optimizer),
        "augmentation": [registry.config_of(registry.AUGMENTATIONS, plugin) for plugin in recipe.augmentations],
        "selection": recipe.evaluation.model_dump(include={"bn_images", "selection_draws", "batch_size"}),
        "checkpoints": 2,  # increase it when a new version trains different weights from the same inputs
    }
    if recipe.sync_batch_norm:
        inputs["sync_batch_norm"] = True
    if planned.phase.multi_exit_loss:
        inputs["exit_weights"] = recipe.exit_weights.model_dump() if "height" in space else None
    if planned.teacher is not None or planned.phase.inplace_distillation:
        inputs["distillation"] = {
            "plugin": registry.config_of(registry.DISTILLATION, recipe.distillation),
            **recipe.model_dump(include={"kd_ratio", "teacher_batch_statistics"}),
        }
        if teacher.settings or not _only_chooses_source(type(teacher)):
            inputs["teacher_policy"] = teacher.config()
        inputs["teacher_weights"] = recipe.exit_weights.model_dump() if "height" in space else None
    return inputs


def _only_chooses_source(policy: type[Teacher]) -> bool:
    """Whether a policy differs from others only in the teacher step, which is a separate cache-key input."""
    return all(getattr(policy, name) is getattr(Teacher, name) for name in ("bind", "logits", "after_step"))
