"""`bf16-mixed` on a CPU: close to float32, resumed bit for bit, batch-norm statistics in float32."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

from ofav2_plugins.execution.training_run import TrainingRun
from ofav2_plugins.models.layers.depthwise import depthwise_conv2d
from ofav2_plugins.models.layers.normalization import FEW, FastBatchNorm2d, FastDynamicBatchNorm2d
from ofav2_plugins.recipes.schema import Recipe
from ofav2_plugins.training.context import LoggingOptions, RunContext
from ofav2_plugins.training.run_config import RunConfig
from ofav2_plugins.utils.distributed import make_fabric
from ofav2_plugins.utils.progress import Reporter
from ofav2_plugins.utils.signals import StopRequest
from ofav2_plugins.utils.tensor_files import load_checkpoint

FLOAT32, BF16 = "32-true", "bf16-mixed"

RECIPE = {
    "width_mult": 0.25,
    "resolutions": [16],
    "batch_size": 64,
    "evaluation": {"bn_images": 128, "selection_draws": 1, "max_subnets": 1, "final_trunks": 1, "batch_size": 250},
    "phases": {"full": {"epochs": 2, "warmup_epochs": 0, "lr": 0.1}},
}


class StoppingReporter(Reporter):
    """Requests a stop after a number of batches."""

    def __init__(self, stop, batches):
        super().__init__(Console(file=io.StringIO()), 1)
        self.stop, self.batches = stop, batches

    def advance(self, work, description, note=""):
        self.batches -= 1
        self.stop.requested = self.batches == 0


def train(folder, data, precision, batches=-1):
    """Train a small supernet, or only a number of batches: results, weights and losses of each step."""
    run = TrainingRun(
        RunConfig("a", "SE_B", Recipe.model_validate(RECIPE), 0), data, folder / "steps", make_fabric("cpu", precision)
    )
    stop = StopRequest()
    phases = list(run.run(RunContext(StoppingReporter(stop, batches), stop, LoggingOptions())))
    weights = {step: load_checkpoint(path / "best.safetensors")[0] for step, path in run.folders.items()}
    epochs = [json.loads(line) for path in run.folders.values() for line in (path / "metrics.jsonl").open()]
    return phases, weights, [epoch["loss"] for epoch in epochs]


@pytest.fixture(scope="module")
def few(data):
    """The first 512 training images."""
    return replace(data, train=data.train.take(np.arange(512)))


@pytest.fixture(scope="module")
def trained(few, tmp_path_factory):
    """The same training in both precisions."""
    return {precision: train(tmp_path_factory.mktemp("run"), few, precision) for precision in (FLOAT32, BF16)}


def test_bf16_mixed_learns_what_float32_learns(trained):
    (phases, _, losses), (expected_phases, _, expected_losses) = trained[BF16], trained[FLOAT32]
    assert losses != expected_losses
    assert losses == pytest.approx(expected_losses, rel=0.05)
    assert losses[1] < losses[0] and expected_losses[1] < expected_losses[0]
    assert phases[0]["best_top1"] == pytest.approx(expected_phases[0]["best_top1"], abs=12)  # percent of 1000 images


def test_weights_and_statistics_stay_in_float32(trained):
    _, weights, _ = trained[BF16]
    for state in weights.values():
        assert {tensor.dtype for tensor in state.values()} == {torch.float32, torch.int64}


def test_a_stopped_training_in_bf16_mixed_continues_bit_for_bit(trained, few, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, few, BF16, batches=11)  # in the second epoch
    _, weights, losses = train(tmp_path, few, BF16)
    _, expected, expected_losses = trained[BF16]
    assert losses == expected_losses
    for step, state in expected.items():
        assert all(torch.equal(value, weights[step][name]) for name, value in state.items())


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_in_bfloat16_do_not_depend_on_other_memory(size, kernel_size, stride):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, 24, size, size, generator=generator)
    filters = torch.randn(24, 1, kernel_size, kernel_size, generator=generator)
    framed = torch.full((x.numel() + 2000,), torch.nan, dtype=torch.bfloat16)  # what a kernel must not read
    maps = framed[1000:-1000].view(16, size, size, 24).permute(0, 3, 1, 2).copy_(x)
    found = []
    exact = maps.double().contiguous()
    for images, dtype in ((maps, torch.bfloat16), (exact, torch.float64), (exact.abs(), torch.float64)):
        weight = filters.bfloat16().to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            y = depthwise_conv2d(images, weight, stride)
        y.backward(torch.ones_like(y))
        found.append(weight.grad.double())
    gradient, expected, largest = found
    # Each value of a sum is rounded by at most 2**-8 of its size, more where a processor has no bfloat16 instructions.
    assert ((gradient - expected).abs() <= 2**-7 * largest).all()


@pytest.mark.parametrize("active", [24, 8])
def test_batch_norms_compute_the_statistics_of_bfloat16_maps_in_float32(active):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, active, 16, 16, generator=generator) * 0.1 + 3
    x = x.bfloat16().contiguous(memory_format=torch.channels_last)
    assert x.numel() > FEW * active
    norm = FastDynamicBatchNorm2d(24)
    norm.bn.__class__, norm.bn.momentum = FastBatchNorm2d, 1.0
    with torch.autocast("cpu", torch.bfloat16):
        norm.train()(x)
    mean, variance = x.double().mean((0, 2, 3)), x.double().var((0, 2, 3))
    for statistics, expected in ((norm.bn.running_mean, mean), (norm.bn.running_var, variance)):
        assert statistics.dtype == torch.float32
        torch.testing.assert_close(statistics[:active].double(), expected, rtol=1e-4, atol=0)
