"""The `search:` section of a study: searches every finished run under the same budgets."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from ..data.base import DataSplits
from ..errors import UserError
from ..execution.open_run import open_run
from ..execution.training_run import TrainingRun
from ..executors.worker import failure, logged_reason
from ..search.command import SearchCall, search_into_folder
from ..search.model import SearchModel
from ..search.results import read_search
from ..training.run_config import RunConfig
from ..utils.progress import say
from .results_writer import StudyResults
from .rows import is_finished
from .schema import StudySearch
from .stats import hypervolume


@dataclass(frozen=True)
class CheckedSearch:
    """A search section that fits every arm.

    Args:
        settings: The search settings, including the budgets of all arms.
        max_cost: Upper cost bound of the hypervolume: the limit, or the baseline's largest cost.
    """

    settings: StudySearch
    max_cost: float


def check_search(settings: StudySearch, runs: Sequence[TrainingRun], baseline: str, data: DataSplits) -> CheckedSearch:
    """Check the section on the untrained supernet of every arm, before any work starts.

    Raises:
        UserError: A plugin cannot be used, or no architecture of an arm satisfies the limits; names the arm.
    """
    arms: dict[str, TrainingRun] = {}
    for run in runs:
        arms.setdefault(run.config.name, run)
    models = {name: _model(settings, run, data) for name, run in arms.items()}
    base = models[baseline]
    cost = settings.cost
    assert cost is not None  # checked by the section's schema
    max_cost = settings.limits.get(cost, float(base.largest_costs()[cost][0]))
    return CheckedSearch(settings.model_copy(update={"budgets": base.budgets()}), max_cost)


def _model(settings: StudySearch, run: TrainingRun, data: DataSplits) -> SearchModel:
    recipe = run.config.recipe
    resolutions = tuple(recipe.resolutions or data.resolutions)
    try:
        return SearchModel(run.config.build(data.n_classes), run.plan[-1].space, resolutions, settings)
    except UserError as error:
        raise type(error)(f"search of arm {run.config.name!r}: {error}") from error


def search_runs(call: SearchCall, checked: CheckedSearch, results: StudyResults, console: Console) -> None:
    """Search every finished run. A failed search is recorded, and the others continue.

    Args:
        call: The search options; `run` is the study folder.
        checked: The checked search section.
        results: Receives the results.
        console: Shows the progress.

    Raises:
        KeyboardInterrupt: The user stopped; everything measured so far is saved.
    """
    finished = [config for config in results.configs if is_finished(results.row(config))]
    for number, config in enumerate(finished, start=1):
        name = f"{config.name}, seed {config.seed}"
        say(console, f"search {number}/{len(finished)}: {name}")
        try:
            found = _searched(call, checked, config, console)
        except (Exception, SystemExit) as error:
            reason = logged_reason(failure(error), results.out, f"search-{config.name}-{config.seed}")
            say(console, f"search of {name} failed: {reason}", "yellow")
            found = {"error": reason}
        results.add_search(config, found)


def _searched(call: SearchCall, checked: CheckedSearch, config: RunConfig, console: Console) -> dict[str, Any]:
    weights = open_run(call.run, config.name, config.seed).weights_digest()
    folder = call.out / folder_name(config, checked.settings, weights)
    own = SearchCall(**{**vars(call), "out": folder, "arm": config.name, "run_seed": config.seed, "resume": True})
    content = _finished_search(folder, config, checked.settings, weights)
    if content is None:
        content, _ = search_into_folder(own, checked.settings, console)
    return row_entry(content, checked.max_cost, folder.relative_to(call.run).as_posix())


def folder_name(config: RunConfig, settings: StudySearch, weights: str) -> str:
    """The search folder of a run; a different search section or different weights get a different folder."""
    key = json.dumps([config.to_dict(), settings.identity(), weights], sort_keys=True)
    readable = re.sub(r"[^\w.+-]+", "_", config.name)[:40]
    return f"{readable}-seed{config.seed}-{hashlib.blake2b(key.encode(), digest_size=4).hexdigest()}"


def _finished_search(folder: Path, config: RunConfig, settings: StudySearch, weights: str) -> dict[str, Any] | None:
    """The content of a finished search; None if it is not finished, or if its file is damaged or of another search."""
    try:
        content = read_search(folder)
    except UserError:
        return None
    run = {name: content["run"][name] for name in ("arm", "seed", "weights")}
    own = run == {"arm": config.name, "seed": config.seed, "weights": weights}
    return content if own and content["settings"] == json.loads(json.dumps(settings.identity())) else None


def row_entry(content: dict[str, Any], max_cost: float, folder: str) -> dict[str, Any]:
    """The entry of a search in results.json.

    Args:
        content: The content of search.json.
        max_cost: Upper cost bound of the hypervolume.
        folder: The search folder, relative to the study folder.
    """
    front, cost = content["front"], content["budgets"][0]["metric"]
    budgets = []
    for row in content["budgets"]:
        chosen = {} if row["front"] is None else {**front[row["front"]], "file": f"archs/{row['front']:02d}.json"}
        budgets.append({"budget": row["budget"], **chosen})
    points = [(net[cost], net["top1"]) for net in front]
    return {
        "folder": folder,
        "cost": cost,
        "max_cost": max_cost,
        "hypervolume": hypervolume(points, max_cost) / max_cost,
        "budgets": budgets,
        "predictor": content["predictor"],
        "seconds": content["seconds"],
    }
