"""Accuracy and confidence of the teachers of a finished study: the maximal network of each step.

    python benchmarks/teachers.py proxy runs/proxy --root DATA [--arms SE_B SE_B-pet]

The network of each step predicts as a teacher in training (ensemble of all exits, batch statistics), on
augmented training batches at the largest resolution. Accuracy in percent; entropy of the predictions and their
cross-entropy with the labels in nats. Prints a table and writes it to benchmarks/results/<study>-teachers.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ofav2_plugins.data.batches import train_batches
from ofav2_plugins.execution.training_run import TrainingRun, load_data
from ofav2_plugins.study.schema import load_study, study_arms
from ofav2_plugins.teachers.base import Teacher
from ofav2_plugins.utils.distributed import make_fabric

BATCHES = 40
RESULTS = Path(__file__).parent / "results"


@torch.no_grad()
def measure(teacher: Teacher, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Accuracy (%), entropy and cross-entropy (nats) of a teacher's predictions."""
    logits, labels = zip(*((teacher.logits(images), labels) for images, labels in batches), strict=True)
    scores, truth = torch.cat(logits).log_softmax(1), torch.cat(labels)
    return {
        "top1": 100 * (scores.argmax(1) == truth).double().mean().item(),
        "entropy": -(scores.exp() * scores).sum(1).mean().item(),
        "cross_entropy": F.nll_loss(scores, truth).item(),
    }


def measure_steps(run: TrainingRun) -> dict[str, dict[str, float]]:
    """Step -> the figures of its maximal network as a teacher."""
    recipe, resolution = run.config.recipe, max(run.evaluator.resolutions)
    found = {}
    for planned in run.plan:
        teacher = run.bound_teacher(replace(planned, teacher=planned.name))
        batches = train_batches(
            run.data, batch_size=recipe.batch_size, resolutions=[resolution], seed=0, phase="said", epoch=0
        )  # fmt: skip
        found[planned.name] = measure(teacher, islice(batches, BATCHES))
    return found


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study")
    parser.add_argument("run", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--arms", nargs="*", default=[])
    options = parser.parse_args()
    torch.set_num_threads(1)
    study, fabric, written = load_study(options.study), make_fabric("cpu"), {}
    for arm in study_arms(study):
        if arm.seed != study.seeds[0] or (options.arms and arm.name not in options.arms):
            continue
        data = load_data(study.dataset, options.root, arm.recipe.validation_fraction)
        written[arm.name] = measure_steps(TrainingRun(arm, data, options.run / "steps", fabric))
        for step, figures in written[arm.name].items():
            print(f"{arm.name:10s} {step:9s}", *(f"{key} {value:6.3f}" for key, value in figures.items()))
    (RESULTS / f"{Path(options.study).stem}-teachers.json").write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
