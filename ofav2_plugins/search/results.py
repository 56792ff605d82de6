"""search.json and the architecture files: the result of a search as data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ..models.spec import supernet_label
from ..plugin import describe_reference, reference_name
from ..searchers.problem import METRICS, side
from ..utils.files import read_record, write_record
from .searching import Found, Volume, front
from .session import SearchResult
from .targets import RESOLUTION, split_arch

FORMAT = "ofav2-search-1"
SEARCHED = "search.json"


class _Run(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    arm: str
    seed: int
    step: str
    weights: str


class Searched(BaseModel):
    """The fields of search.json by which a search is recognized."""

    model_config = ConfigDict(extra="allow", strict=True)

    format: Literal["ofav2-search-1"]
    run: _Run
    settings: dict[str, Any]
    front: list[dict[str, Any]]
    budgets: list[dict[str, Any]]


def read_search(folder: Path) -> dict[str, Any]:
    """The content of search.json. Raises RunError if it is missing or damaged."""
    return read_record(folder / SEARCHED, Searched)


def search_content(result: SearchResult, environment: dict[str, Any]) -> dict[str, Any]:
    """The content of search.json."""
    search, settings = result.search, result.search.settings
    rows = front_rows(result)
    volume = Volume(search.problem, search.largest_costs())
    run = search.run
    return {
        "format": FORMAT,
        "supernet": supernet_label(run.config.supernet),
        "run": {"arm": run.config.name, "seed": run.config.seed, "step": search.source.step, "weights": search.weights},
        "objectives": settings.objectives,
        "constraints": settings.limits,
        "searcher": reference_name(settings.searcher),
        "settings": settings.identity(),
        "evaluations": result.found.evaluations,
        "seconds": result.found.seconds,
        "predictor": {
            "name": reference_name(settings.predictor),
            "samples": len(result.samples),
            "kendall_tau": result.quality.kendall_tau,
            "kendall_tau_ceiling": result.quality.kendall_tau_ceiling,
            "spearman": result.quality.spearman,
            "rmse": result.quality.rmse,
            "learning_curve": [list(point) for point in result.quality.curve],
        },
        "reference": volume.reference,
        "hypervolume": volume(result.found.metrics),
        "random_hypervolume": volume(result.baseline.metrics) if len(result.baseline.codes) else 0.0,
        "measured_hypervolume": volume(search.measured(_pool(result))),
        "samples_hypervolume": volume(search.measured(result.samples)),
        "front": rows,
        "budgets": budget_rows(rows, search.budgets(), settings.cost, settings.accuracy),
        "latency_table": search.table.model_dump(exclude={"parts"}) if search.table else None,
        "points": _points(result),
        "environment": environment,
    }


def _pool(result: SearchResult) -> list[dict[str, Any]]:
    return [*result.candidates, *result.samples]


def front_rows(result: SearchResult) -> list[dict[str, Any]]:
    """The measured front in ascending order of the first cost."""
    search = result.search
    places = search.measured_front(result.candidates)
    chosen = [result.candidates[place] for place in places]
    codes = search.encode(chosen)
    predicted = search.problem.evaluate(codes)
    validation, test = search.measured(chosen), search.measured(chosen, "test")
    rows = []
    for i, arch in enumerate(search.encoding.decode(codes)):
        own, resolution = split_arch(arch)
        row: dict[str, Any] = {
            "arch": own,
            "resolution": resolution,
            "predicted_top1": float(predicted["top1"][i]),
            "val_top1": float(validation["top1"][i]),
            "top1": float(test["top1"][i]),
            "macs": int(validation["macs"][i]),
            "params": int(validation["params"][i]),
            "latency_ms": float(validation["latency_ms"][i]) if "latency_ms" in validation else None,
            "memory_mib": float(validation["memory_mib"][i]),
        }
        if search.settings.early_exit:
            row["expected_val_top1"] = float(validation["expected_top1"][i])
            row["expected_top1"] = float(test["expected_top1"][i])
            row["expected_macs"] = float(validation["expected_macs"][i])
        rows.append(row)
    return rows


def budget_rows(
    rows: Sequence[dict[str, Any]], limits: Sequence[float], cost: str | None, accuracy: str
) -> list[dict[str, Any]]:
    """For each budget, the recommended subnet: the one of the front within it with the best validation accuracy."""
    found = []
    on_validation = accuracy.replace("top1", "val_top1")
    for limit in limits:
        within = [place for place, row in enumerate(rows) if cost and row[cost] <= limit]
        best = max(within, key=lambda place: rows[place][on_validation], default=None)
        found.append({"budget": limit, "metric": cost, "front": best})
    return found


def _points(result: SearchResult) -> dict[str, Any]:
    """Data of the pictures, in addition to the front: pairs of the first cost (or MACs) and an accuracy."""
    search = result.search
    settings = search.settings
    x, y = settings.cost or "macs", settings.accuracy

    def line(found: Found) -> list[list[float]]:
        if len(found.codes) == 0:
            return []
        places = front(search.problem, found)
        return sorted([float(found.metrics[x][p]), float(found.metrics[y][p])] for p in places)

    samples = search.measured(result.samples)
    indices, predictions = result.quality.held_out
    return {
        "x": METRICS[x].label,
        "y": METRICS[y].label,
        "samples": [[float(a), float(b)] for a, b in zip(samples[x], samples[y], strict=True)],
        "heights": [sample["arch"].get("height") for sample in result.samples],
        "predicted_front": line(result.found),
        "random_front": line(result.baseline),
        "held_out": [[float(p), float(samples[y][i])] for i, p in zip(indices, predictions, strict=True)],
    }


def write_archs(content: dict[str, Any], out: Path) -> list[Path]:
    """Write the architectures of the front to `archs/00.json`, `archs/01.json` and so on; returns the files."""
    files = []
    for number, row in enumerate(content["front"]):
        path = arch_file(out, number)
        write_record(path, arch_record(row))
        files.append(path)
    return files


def arch_file(out: Path, number: int) -> Path:
    """The file of an architecture of the front."""
    return out / "archs" / f"{number:02d}.json"


def arch_record(row: dict[str, Any]) -> dict[str, Any]:
    """The content of the file of a row of the front."""
    names = ("arch", RESOLUTION, "val_top1", "top1", "macs", "params", "memory_mib", "latency_ms")
    return {name: row[name] for name in names}


def search_title(content: dict[str, Any]) -> str:
    """A search as one line of text."""
    limits = ", ".join(
        f"{METRICS[name].label} {side(name)} {bound:g}" for name, bound in content["constraints"].items()
    )
    goals = " and ".join(METRICS[name].label for name in content["objectives"])
    return f"{content['supernet']}: {goals}" + (f"; {limits}" if limits else "")


def plugin_words(content: dict[str, Any]) -> str:
    """Searcher and predictor with their settings, as text."""
    settings = content["settings"]
    return f"{describe_reference(settings['searcher'])}; {describe_reference(settings['predictor'])}"
