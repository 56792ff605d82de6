"""One call of `ofav2 profile`: the training's space, the measurement with progress, the file, the summary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ..errors import UserError
from ..evaluation.backends import check_backend
from ..evaluation.encoding import Encoding
from ..evaluation.latency_table import LatencyTable, write_table
from ..evaluation.profile import TOLERATED, Profiler, machine
from ..execution.open_run import open_run
from ..execution.provenance import environment
from ..utils.distributed import make_fabric
from ..utils.progress import Reporter


@dataclass(frozen=True)
class ProfileCall:
    """Options of `ofav2 profile`.

    Args:
        run: The folder of a training or a study.
        out: The file of the table.
        backend: "torch" or "onnxruntime".
        threads: CPU threads; None: torch's default.
        device: "cpu" or "cuda".
        arm: For a study: the arm.
        run_seed: For a study: the seed of the training.
        step: The step whose space is profiled; None: the last finished one.
        seed: Chooses the whole networks.
    """

    run: Path
    out: Path
    backend: str = "torch"
    threads: int | None = None
    device: str = "cpu"
    arm: str | None = None
    run_seed: int | None = None
    step: str | None = None
    seed: int = 0


def run_profile(call: ProfileCall, console: Console) -> LatencyTable:
    """Measure and write the table; prints its errors on whole networks.

    Raises:
        UserError: An unknown training, a backend that cannot run here, an existing file.
    """
    check_backend(call.backend, call.device)
    if call.out.exists():
        raise UserError(f"--out {call.out} exists; choose another file or remove it")
    run, fabric = open_run(call.run, call.arm, call.run_seed), make_fabric(call.device)
    if call.threads is not None:
        torch.set_num_threads(call.threads)
    resolutions = tuple(run.config.recipe.resolutions or run.data().resolutions)
    profiler = Profiler(
        run.supernet(call.step),
        Encoding(run.unlocked_space(call.step)),
        resolutions,
        call.backend,
        fabric.device,
        torch.get_num_threads(),
        call.seed,
    )
    with Reporter(console, profiler.work) as reporter:
        table = profiler.measure(this_machine(call.device), lambda what: reporter.advance(1, "profiling", what))
    write_table(call.out, table)
    console.print(summary(table, call.out), soft_wrap=True, markup=False, highlight=False)
    return table


def this_machine(device: str) -> dict[str, Any]:
    """The description of this machine, see `evaluation.profile.machine`."""
    fabric = make_fabric(device)
    known = environment(fabric)
    return machine(known["processor"] if fabric.device.type == "cpu" else known["device"], fabric.device.type)


def summary(table: LatencyTable, path: Path) -> str:
    """The quality of a table's predictions, as text."""
    found = table.validation
    text = (
        f"{len(table.parts)} parts by {table.backend} {table.version}, {table.threads} thread(s), "
        f"{table.machine['processor']}; on {found.networks} networks that it was not fitted on: mean "
        f"error {found.mape:.1f} %, Kendall tau {found.kendall_tau:.3f}"
    )
    if found.corrected:
        fit = table.correction
        text += (
            f"\nthe plain sum of the parts has a mean error of {found.mape_of_sum:.1f} %; a correction was fitted on "
            f"other networks: {fit.factor:.3f} x sum {fit.per_part:+.4f} ms per part {fit.constant:+.4f} ms"
        )
    if found.mape > TOLERATED:
        text += (
            f"\nthis is more than {TOLERATED:g} %: other work on the machine may disturb the times; measure again when "
            "it is idle"
        )
    return f"{text}\nwritten to {path}; use it with: ofav2 search ... --latency {path}"
