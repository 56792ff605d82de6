"""The format of results.json: its schema, loading, merging."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ..errors import RunError, UserError
from ..execution.run_folder import RUN_FILE, read_run_file
from ..utils.files import DIGEST, check_fields, content_digest

RESULTS = "results.json"
FORMAT = "ofav2-results-1"


def _percent(value: float | None) -> float | None:
    if value is not None and not (math.isnan(value) or 0 <= value <= 100):
        raise ValueError("an accuracy must be in 0..100 percent")
    return value


Percent = Annotated[float | None, AfterValidator(_percent)]
"""An accuracy; null and NaN mean that there is none."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Network(_Part):
    val_top1: Percent = None
    top1: Percent = None


class _Phase(_Part):
    name: str
    best_top1: Percent = None
    test_max_top1: Percent = None
    mean_top1: Percent = None
    min_top1: Percent = None
    ensemble_top1: Percent = None
    ensemble_val_top1: Percent = None
    seconds: float | None = None
    subnets: list[_Network] | None = None
    exits: list[_Network] | None = None


class _Row(_Part):
    arm: str
    seed: int | str | None = None
    steps: list[str] | None = None
    phases: list[_Phase] | None = None
    error: str | None = None
    search: dict[str, Any] | None = None


class _Study(_Part):
    baseline: str
    dataset: str | None = None
    recipes: dict[str, dict[str, Any]] | None = None
    factors: dict[str, str] | None = None
    identity: str | None = None


class _Results(_Part):
    study: _Study
    environment: dict[str, Any] = Field(default_factory=dict)
    rows: list[_Row]


class FormatError(UserError):
    """Results written by another version."""


def load_results(path: Path, warn: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Load the results of a run folder or of a results.json.

    Args:
        path: The folder or the file.
        warn: Called with a warning if the file has no digest, for example because it was merged by hand.

    Raises:
        FormatError: The file was written by another version.
        UserError: The file is missing or is not a results file; names the file.
        RunError: The file is damaged, was modified, or is of another run than its folder; names the file and the field.
    """
    file = path / RESULTS if path.is_dir() else path
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is missing or damaged: {error}; give a run folder or its {RESULTS}") from error
    if isinstance(results, dict) and results.get("format", FORMAT) != FORMAT:
        raise FormatError(
            f"{file} must have the format {FORMAT!r}, but has {results['format']!r}: another version of ofav2-plugins "
            "has written it; use that version or another folder"
        )
    digest = results.pop(DIGEST, None) if isinstance(results, dict) else None
    if digest is None:
        warn(f"{file} has no digest, so it cannot be checked for changes since the measurement")
    elif digest != content_digest(results):
        raise RunError(
            f"{file} is damaged: its digest does not match its content; run the command that wrote it again with "
            "--resume, which rebuilds it from the finished steps"
        )
    check_fields(file, results, _Results)
    if (file.parent / RUN_FILE).exists():
        _check_run(file, results)
    checked: dict[str, Any] = results
    return checked


def _check_run(file: Path, results: dict[str, Any]) -> None:
    """Raise RunError if results were not written by the run in their folder; a damaged run.json is not compared."""
    try:
        identity = content_digest(read_run_file(file.parent)["settings"])
    except RunError:
        return
    if results["study"].get("identity") not in (None, identity):
        raise RunError(
            f"{file} is of another run than the {RUN_FILE} next to it; run the command that wrote the folder again "
            "with --resume, which rebuilds it from the finished steps"
        )


def merge_results(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Merge several runs: the result has all of their rows and the first run's baseline.

    A row that appears in several runs is kept once; its costs (time, memory, energy) may differ. If one copy failed or
    was stopped, the copy with more finished steps is kept.

    Raises:
        UserError: The runs cannot be compared (the dataset or an arm's recipe differs), or they contain different
            results for the same arm and seed.
    """
    if not parts:
        raise UserError("a report needs at least one run, but got none")
    if len(parts) == 1:
        return parts[0]
    studies = [part["study"] for part in parts]
    datasets = list(dict.fromkeys(study.get("dataset") for study in studies))
    if len(datasets) > 1:
        raise UserError(f"runs to merge must agree in dataset, but got {datasets[0]!r} and {datasets[1]!r}")
    merged = {key: value for part in reversed(parts) for key, value in part.items()}
    recipes = _merged_recipes(studies)  # first, because different recipes explain different results
    merged["rows"] = _merged_rows(parts)
    merged["study"] = {
        **studies[0],
        "name": " + ".join(_distinct(study.get("name") for study in studies)),
        "description": " ".join(_distinct(study.get("description") for study in studies)),
        "recipes": recipes,
        "factors": {arm: factor for study in reversed(studies) for arm, factor in (study.get("factors") or {}).items()},
        "command": "\n".join(_distinct(study.get("command") for study in studies)),
    }
    merged["environment"] = joined_environments([part.get("environment") or {} for part in parts])
    return merged


def joined_environments(environments: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Merge the environments of several sessions; if a field differs, all of its values are listed."""
    joined = {}
    for key in dict.fromkeys(key for environment in environments for key in environment):
        values = [environment[key] for environment in environments if key in environment]
        joined[key] = values[0] if all(value == values[0] for value in values) else "; ".join(_distinct(values))
    return joined


def _distinct(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value not in (None, "")))


def _merged_rows(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows: dict[tuple[str, Any], dict[str, Any]] = {}
    for row in (row for part in parts for row in part["rows"]):
        key = (row["arm"], row.get("seed"))
        existing = rows.get(key, row)
        failed = existing.get("error") or row.get("error")
        same = all(existing.get(name) == row.get(name) for name in ("supernet", "teacher"))
        phases = map(operator.eq, _without_costs(existing), _without_costs(row))  # the shared ones
        if not same or not (failed or all(phases)):
            where = f"arm {row['arm']!r} with seed {row.get('seed')}"
            raise UserError(f"{where} occurs twice with different results; omit one of the runs")
        rows[key] = max((existing, row), key=lambda r: (len(r.get("phases") or []), not r.get("error")))
    return list(rows.values())


def _without_costs(row: dict[str, Any]) -> list[str]:
    phases = [{k: v for k, v in phase.items() if k not in _COSTS} for phase in row.get("phases") or []]
    for phase in phases:
        subnets = phase.get("subnets") or []
        phase["subnets"] = [{k: v for k, v in subnet.items() if k != "latency_ms"} for subnet in subnets]
    return [json.dumps(phase, sort_keys=True) for phase in phases]  # as text, in which NaN equals NaN


_COSTS = ("seconds", "images_per_second", "peak_memory_mib", "energy_kwh", "co2_kg")


def _merged_recipes(studies: list[dict[str, Any]]) -> dict[str, Any]:
    recipes: dict[str, Any] = {}
    for arm, recipe in (item for study in studies for item in (study.get("recipes") or {}).items()):
        if recipes.setdefault(arm, recipe) != recipe:
            raise UserError(f"arm {arm!r} has different recipes in the runs to merge; rename one")
    return recipes
