"""Two processes over gloo against one: the same weights and metrics of the same global batches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.plugins import third_party
from support.study_samples import STUDY

from ofav2_plugins.utils.tensor_files import load_checkpoint

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

# Batch norms stay in evaluation mode: their statistics would be those of half a batch. Dropout differs by rank: off.
SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
import torch
import ofav2_plugins as ofav2
from ofav2_plugins import registry
from ofav2_plugins.utils.tensor_files import save_checkpoint
from ofav2_plugins.data.base import make_splits, Split
from ofav2_plugins.data.batches import train_batches
from ofav2_plugins.utils.distributed import make_fabric, map_over_ranks
from ofav2_plugins.evaluation.accuracy import Candidate, Evaluator
from ofav2_plugins.training.losses import Objective
from ofav2_plugins.recipes.schema import load_recipe
from ofav2_plugins.utils.seeding import forked_torch, python_rng
from ofav2_plugins.training.trainer import make_optimizer, train_batch

torch.set_num_threads(1)
fabric = make_fabric("cpu")
rng = np.random.default_rng(0)
def split(n):
    return Split(rng.integers(0, 256, (n, 3, 24, 24), dtype=np.uint8), np.arange(n) % 4)
data = make_splits("noise", split(160), split(40), class_names="abcd", resolutions=(16, 24), mean=(0.5,) * 3,
                   std=(0.25,) * 3, validation_fraction=0.2, seed=0)
recipe = load_recipe("quick", ["evaluation.bn_images=64", "evaluation.batch_size=64"])
with forked_torch(0):
    net = ofav2.build_supernet("EE_DP", n_classes=4, width_mult=0.25, dropout_rate=0)
evaluator = Evaluator(data, recipe, fabric, 0)
teacher = registry.load(registry.TEACHERS, "progressive")
teacher.bind(net, evaluator.calibration(24), (0.2,) * 5, batch_statistics=False)
with torch.no_grad():
    net.train().set_max_net()
    for _ in range(30):  # statistics that a network in evaluation mode can train with
        net.forward_exits(evaluator.calibration(24)[0])
optimizer = fabric.setup_optimizers(make_optimizer(net, recipe, 0.005))
objective = Objective(recipe, registry.load(registry.DISTILLATION, "soft_ce"))
batches = train_batches(data, batch_size=32, resolutions=(16, 24), seed=0, phase="kernel", epoch=0,
                        rank=fabric.global_rank, world_size=fabric.world_size)
losses = []
for step, (images, labels) in enumerate(batches):
    archs = [net.space.sample(python_rng(0, step, i)) for i in range(2)]
    losses.append(train_batch(fabric, net.eval(), optimizer, objective, images, labels, archs, teacher, (0, step)))
grid = [Candidate(arch, 16) for arch in list(net.space.grid())[:3]]
result = {"losses": losses, "images": len(images), "validated": evaluator.validate(net, grid),
          "measured": [m.top1 for m in map_over_ranks(fabric, lambda c: evaluator.measure(net, c), grid)]}
folder = Path(sys.argv[1])
(folder / f"rank{fabric.global_rank}.json").write_text(json.dumps(result))
save_checkpoint(folder / f"rank{fabric.global_rank}.safetensors", net.state_dict(), {})
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[int, Path]:
    """Folder with the final weights and metrics of each rank, by the number of processes."""
    script = tmp_path_factory.mktemp("script") / "script.py"
    script.write_text(SCRIPT)
    folders = {}
    for processes, launch in ((1, []), (2, TORCHRUN)):
        folders[processes] = tmp_path_factory.mktemp(f"of{processes}")
        done = subprocess.run(
            [sys.executable, *launch, str(script), str(folders[processes])], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    return folders


def read(folder: Path, rank: int) -> dict:
    return json.loads((folder / f"rank{rank}.json").read_text())


def test_two_processes_train_the_same_weights_as_one(trained):
    alone = load_checkpoint(trained[1] / "rank0.safetensors")[0]
    first, second = (load_checkpoint(trained[2] / f"rank{rank}.safetensors")[0] for rank in (0, 1))
    assert read(trained[1], 0)["images"] == 32
    assert read(trained[2], 0)["images"] == 16
    for name, value in alone.items():
        assert torch.equal(first[name], second[name]), name
        # float32: gradients are summed in another order, over four optimiser steps
        torch.testing.assert_close(first[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_metrics_are_those_of_the_whole_batch_and_the_same_on_all_ranks(trained):
    alone, first, second = read(trained[1], 0), read(trained[2], 0), read(trained[2], 1)
    assert first["losses"] == second["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    assert len(alone["losses"]) == 4
    for key in ("validated", "measured"):
        assert first[key] == second[key] == pytest.approx(alone[key], abs=4)  # one of 25 images may tip over


def test_a_training_of_two_processes_is_resumed_by_one(tmp_path):
    settings = ["width_mult=0.25", "resolutions=[12, 16]", "batch_size=512", "evaluation.bn_images=64",
                "evaluation.max_subnets=3", "evaluation.final_trunks=3",
                "phases={full: {epochs: 1}, height: {epochs: 1, warmup_epochs: 0}}"]  # fmt: skip
    out = tmp_path / "run"
    train = ["-m", "ofav2_plugins", "train", "--supernet", "EE_B", "--out", str(out), "--threads", "1",
             *(part for setting in settings for part in ("--set", setting))]  # fmt: skip
    done = subprocess.run([sys.executable, *TORCHRUN, *train], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report:") == 1, "one process speaks"
    results = json.loads((out / "results.json").read_text())
    assert results["environment"]["processes"] == 2
    [row] = results["rows"]
    assert [phase["name"] for phase in row["phases"]] == ["full", *(f"height-{i}" for i in range(1, 5))]
    n_subnets = [len(phase["subnets"]) for phase in row["phases"][1:]]
    assert n_subnets == [3, 3, 3, 10]  # at last all 5 heights of two trunks, which differ only in the resolution
    again = subprocess.run([sys.executable, *train, "--resume", "--accept-changes"], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert json.loads((out / "results.json").read_text())["rows"] == [row]


def test_a_batch_that_cannot_be_divided_is_refused(tmp_path):
    train = ["-m", "ofav2_plugins", "train", "--supernet", "SE_B", "--out", str(tmp_path / "run"),
             "--set", "batch_size=33"]  # fmt: skip
    done = subprocess.run([sys.executable, *TORCHRUN, *train], capture_output=True, text=True)
    assert done.returncode != 0
    assert "batch_size must be a multiple of the 2 processes with 2 images or more for each, but got 33" in done.stderr


SYNCHRONIZED = """
import sys
from pathlib import Path
import torch
from torch import nn
import ofav2_plugins as ofav2
from ofav2_plugins import registry
from ofav2_plugins.models.sync_batch_norm import synchronized_batch_norms
from ofav2_plugins.recipes.schema import load_recipe
from ofav2_plugins.training.losses import Objective
from ofav2_plugins.training.trainer import make_optimizer, train_batch
from ofav2_plugins.utils.distributed import make_fabric
from ofav2_plugins.utils.seeding import forked_torch, python_rng
from ofav2_plugins.utils.tensor_files import save_checkpoint

torch.set_num_threads(1)
fabric = make_fabric("cpu")
recipe = load_recipe("quick", ["sync_batch_norm=true"])
with forked_torch(0):
    net = ofav2.build_supernet("EE_DP", n_classes=4, width_mult=0.25, dropout_rate=0).double()
    images, labels = torch.randn(12, 3, 24, 24, dtype=torch.double), torch.arange(12) % 4
teacher = registry.load(registry.TEACHERS, "progressive")
teacher.bind(net, [images], (0.2,) * 5, batch_statistics=True)
optimizer = make_optimizer(net, recipe, 0.005)
objective = Objective(recipe, registry.load(registry.DISTILLATION, "soft_ce"))
n = len(images) // fabric.world_size
mine = slice(n * fabric.global_rank, n * (fabric.global_rank + 1))
archs = [net.space.max_arch(), net.space.sample(python_rng(0))]
train_batch(fabric, net.train(), optimizer, objective, images[mine], labels[mine], archs, teacher, (0,))
gradients = {f"gradient of {name}": p.grad for name, p in net.named_parameters() if p.grad is not None}
plain = nn.BatchNorm2d(3).double()
with synchronized_batch_norms(fabric, True):
    plain(images[mine])
plain = {f"plain.{name}": value for name, value in plain.state_dict().items()}
values = {name: value.contiguous() for name, value in {**net.state_dict(), **gradients, **plain}.items()}
save_checkpoint(Path(sys.argv[1]) / f"rank{fabric.global_rank}.safetensors", values, {})
"""


def test_synchronized_batch_norms_have_the_statistics_and_gradients_of_the_whole_batch(tmp_path):
    """In float64, all differences are of rounding."""
    (tmp_path / "script.py").write_text(SYNCHRONIZED)
    folders = {}
    for processes, launch in ((1, []), (2, TORCHRUN)):
        folders[processes] = tmp_path / str(processes)
        folders[processes].mkdir()
        command = [sys.executable, *launch, str(tmp_path / "script.py"), str(folders[processes])]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    alone = load_checkpoint(folders[1] / "rank0.safetensors")[0]
    first, second = (load_checkpoint(folders[2] / f"rank{rank}.safetensors")[0] for rank in (0, 1))
    assert sum(name.startswith("gradient") for name in alone) > 100
    assert sum(name.endswith("running_mean") for name in alone) > 50
    assert alone.keys() == first.keys()
    for name, value in alone.items():
        torch.testing.assert_close(first[name], value, rtol=1e-6, atol=1e-9, msg=name)
        assert torch.equal(first[name], second[name]), name


FAILING_IN_A_BATCH_NORM = """
import torch
from torch import nn
from ofav2_plugins.errors import ProcessGroupError
from ofav2_plugins.models.sync_batch_norm import synchronized_batch_norms
from ofav2_plugins.utils.distributed import failing_together, make_fabric

fabric, norm = make_fabric("cpu"), nn.BatchNorm2d(3)
with failing_together(fabric), synchronized_batch_norms(fabric, True):
    norm(torch.randn(4, 3, 8, 8))
    if fabric.global_rank == 1:
        raise MemoryError("too little memory")
    norm(torch.randn(4, 3, 8, 8))
"""


def test_a_failure_between_synchronized_batch_norms_ends_all_processes(tmp_path):
    (tmp_path / "script.py").write_text(FAILING_IN_A_BATCH_NORM)
    done = subprocess.run(
        [sys.executable, *TORCHRUN, str(tmp_path / "script.py")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode != 0
    assert "ProcessGroupError: all processes stop because one failed: MemoryError: too little" in done.stderr


FAILURES = """
import json, sys
import torch
from pathlib import Path
from ofav2_plugins.errors import DiskError, error_message
from ofav2_plugins.utils import distributed
from ofav2_plugins.utils.distributed import any_rank, average, failing_together, from_rank_zero, map_over_ranks

torch.set_num_threads(1)
fabric = distributed.make_fabric("cpu")
rank = fabric.global_rank

def fail(on, error=None):
    if rank in on:
        raise error or ValueError(f"boom on {rank}")

def before_anything():
    fail([1])
    any_rank(fabric, False)

def in_a_part_of_the_items():
    for _ in map_over_ranks(fabric, lambda item: fail([1] if item == 3 else []), range(6)):
        average(fabric, torch.ones(3))

def between_gradients():
    layer = torch.nn.Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()
    distributed.average_gradients(fabric, layer)
    fail([0])
    average(fabric, torch.ones(3))

def after_the_last_wait():
    any_rank(fabric, False)
    fail([1])

def on_both_at_different_places():
    fail([0])
    any_rank(fabric, False)
    fail([1])

def on_a_full_disk():
    fail([0], DiskError("the disk is full"))
    from_rank_zero(fabric, rank)

def leaving():
    fail([1], SystemExit(3))

def not_at_all():
    assert from_rank_zero(fabric, rank) == 0 and any_rank(fabric, rank == 1) and not any_rank(fabric, False)

said = {}
for work in (before_anything, in_a_part_of_the_items, between_gradients, after_the_last_wait,
             on_both_at_different_places, on_a_full_disk, leaving, not_at_all):
    try:
        with failing_together(fabric):
            work()
        said[work.__name__] = "ok"
    except (Exception, SystemExit) as error:
        said[work.__name__] = f"{type(error).__name__} {error_message(error)}"
    gathered = list(map_over_ranks(fabric, lambda item: item * rank, [5, 7]))  # the ranks are at the same place
    assert gathered == [0, 7], (work.__name__, gathered)
Path(sys.argv[1], f"said{rank}.json").write_text(json.dumps(said))
"""


@pytest.mark.slow  # now and then a process of torchrun aborts while it exits, after it has written the right results
def test_a_failure_of_one_process_is_raised_in_all(tmp_path):
    (tmp_path / "script.py").write_text(FAILURES)
    done = subprocess.run(
        [sys.executable, *TORCHRUN, str(tmp_path / "script.py"), str(tmp_path)], capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"said{rank}.json").read_text()) for rank in (0, 1))
    own = "ValueError ValueError: boom on {0}"
    others = "RankError process {0} has failed: ValueError: boom on {0}"
    for place, failing in {"before_anything": 1, "in_a_part_of_the_items": 1, "between_gradients": 0,
                           "after_the_last_wait": 1}.items():  # fmt: skip
        assert (first, second)[failing][place] == own.format(failing)
        assert (second, first)[failing][place] == others.format(failing)
    assert first["on_both_at_different_places"] == own.format(0)
    assert second["on_both_at_different_places"] == others.format(0)
    assert first["on_a_full_disk"] == "DiskError the disk is full"
    assert second["on_a_full_disk"] == "DiskError process 0 has failed: the disk is full"
    assert first["leaving"] == "RankError process 1 has failed: SystemExit: 3"
    assert first["not_at_all"] == second["not_at_all"] == "ok"


BROKEN = """
import os
from ofav2_plugins.distillation.base import Distillation

class Moody(Distillation):
    "Fails in one of the processes."
    calls = 0

    def loss(self, student_logits, teacher_logits):
        Moody.calls += 1
        if os.environ.get("RANK") == "1" and Moody.calls > int(os.environ["CALLS"]):
            raise RuntimeError("not today")
        return (student_logits - teacher_logits).square().mean()
"""


@pytest.mark.parametrize("calls", [2, 6])
def test_an_arm_that_fails_in_one_process_is_recorded_and_the_next_one_runs(study, tmp_path, calls):
    """`calls`: before or after the first arm has finished an epoch of its phase with a teacher."""
    environment = third_party(tmp_path / "packages", {"ofav2.distillation": "Moody"}, BROKEN)
    study.write_text(STUDY.replace("SE_B,", "SE_B, distillation: moody,") + "overrides: [phases.kernel.epochs=2]\n")
    ablate = ["-m", "ofav2_plugins", "ablate", str(study), "--out", str(tmp_path / "out"), "--threads", "1"]
    done = subprocess.run([sys.executable, *TORCHRUN, *ablate], capture_output=True, text=True, timeout=300,
                          env={**environment, "CALLS": str(calls)})  # fmt: skip
    assert done.returncode != 0
    assert "1 of 2 arms failed" in done.stderr
    rows = {row["arm"]: row for row in json.loads((tmp_path / "out" / "results.json").read_text())["rows"]}
    assert "process 1 has failed" in rows["a"]["error"] and "not today" in rows["a"]["error"]
    assert [phase["name"] for phase in rows["a"]["phases"]] == ["full"]
    assert [phase["name"] for phase in rows["b"]["phases"]] == ["full", "kernel"] and "error" not in rows["b"]
