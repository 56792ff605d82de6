"""The cache key of a trained step: a hash of everything that its result depends on."""

from __future__ import annotations

from typing import Any

from ..data.base import DataSplits
from ..models.spec import resolve_spec
from ..space import SearchSpace
from ..teachers.base import Teacher
from ..training.plan import PlannedStep
from ..training.run_config import RunConfig


def cache_key_inputs(arm: RunConfig, data: DataSplits, planned: PlannedStep, space: SearchSpace) -> dict[str, Any]:
    """What a trained step depends on besides the steps before it; what it does not use is left out."""
    recipe = arm.recipe
    teacher = type(arm.teacher())
    facts: dict[str, Any] = {
        "spec": resolve_spec(arm.supernet).to_dict(),
        "space": planned.space.to_dict(),
        "phase": planned.phase.name,
        "step": planned.step,
        "settings": vars(planned.settings),
        "seed": arm.seed,
        "data": data.fingerprint,
        "recipe": recipe.model_dump(
            include={
                "width_mult",
                "resolutions",
                "batch_size",
                "label_smoothing",
                "zero_last_gamma",
                "optimizer",
                "idle_parameters",
                "augmentation",
            }
        ),
        "selection": recipe.evaluation.model_dump(include={"bn_images", "selection_draws", "batch_size"}),
        "checkpoints": 1,  # raise it when a new version trains other weights from the same facts
    }
    if planned.phase.multi_exit_loss:
        facts["exit_weights"] = recipe.exit_weights.model_dump() if "height" in space else None
    if planned.teacher is not None or planned.phase.inplace_distillation:
        facts["distillation"] = recipe.model_dump(include={"distillation", "kd_ratio", "teacher_batch_statistics"})
        if (teacher.bind, teacher.logits) != (Teacher.bind, Teacher.logits):
            facts["teacher_policy"] = recipe.teacher  # it teaches in a way of its own; ours differ in the source alone
        facts["teacher_weights"] = recipe.exit_weights.model_dump() if "height" in space else None
    return facts
