"""Reading results, merging runs, and the report: a console table, one HTML page, charts, CSV and TeX."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..checkpoint import write_atomically
from ..errors import UserError
from ..recipes import load_recipe
from .charts import chart_data, draw_charts
from .sheets import Sheet, accuracy_sheet, ends_sheet, sheets, subnets_sheet
from .statistics import Summary

FORMAT = "ofav2-results-1"
WIDTH = 100


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Phase(_Part):
    name: str
    best_top1: float | None = None
    test_max_top1: float | None = None
    mean_top1: float | None = None
    min_top1: float | None = None
    seconds: float | None = None
    subnets: list[dict[str, Any]] | None = None
    exits: list[dict[str, Any]] | None = None


class _Row(_Part):
    arm: str
    seed: int | str | None = None
    steps: list[str] | None = None
    phases: list[_Phase] | None = None
    error: str | None = None


class _Study(_Part):
    baseline: str
    dataset: str | None = None
    recipes: dict[str, dict[str, Any]] | None = None
    factors: dict[str, str] | None = None


class _Results(_Part):
    study: _Study
    environment: dict[str, Any] = Field(default_factory=dict)
    rows: list[_Row]


class FormatError(UserError):
    """Results that another version has written."""


def load_results(path: Path) -> dict[str, Any]:
    """The results of a run folder, or of a results.json.

    Raises:
        FormatError: Another version has written it.
        UserError: There is none, or it is damaged, or it is something else; names the file.
    """
    file = path / "results.json" if path.is_dir() else path
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is missing or damaged: {error}; give a run folder or its file") from error
    if isinstance(results, dict) and results.get("format", FORMAT) != FORMAT:
        raise FormatError(
            f"{file} must have the format {FORMAT!r}, but has {results['format']!r}: another version of ofav2-plugins "
            "has written it; use that one, or another folder"
        )
    try:
        _Results.model_validate(results)
    except ValidationError as error:
        first = error.errors()[0]
        where = re.sub(r"\.(\d+)", r"[\1]", ".".join(map(str, first["loc"]))) or "the whole"
        raise UserError(f"{file} is not a results file of ofav2: {where}: {first['msg']}") from error
    return results


def merge_results(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Several runs as one: all their rows; the first run's baseline is the baseline.

    A row that several runs hold counts once; what it cost (time, memory, energy) may differ. Of one that failed or
    was stopped and one that came further, the latter counts.

    Raises:
        UserError: Runs that cannot be compared (dataset or an arm's recipe differ), or that hold different results
            of the same arm and seed.
    """
    if not parts:
        raise UserError("there must be at least one run to report on, but got none")
    if len(parts) == 1:
        return parts[0]
    studies = [part["study"] for part in parts]
    datasets = list(dict.fromkeys(study.get("dataset") for study in studies))
    if len(datasets) > 1:
        raise UserError(f"runs to merge must agree in dataset, but got {datasets[0]!r} and {datasets[1]!r}")
    merged = {key: value for part in reversed(parts) for key, value in part.items()}
    recipes = _merged_recipes(studies)  # first: different ones are why results differ
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
    """Several sessions' environments as one: where they differ, all values are there."""
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
        held = rows.get(key, row)
        failed = held.get("error") or row.get("error")
        same = all(held.get(name) == row.get(name) for name in ("supernet", "teacher"))
        phases = map(operator.eq, _without_costs(held), _without_costs(row))  # those that both have
        if not same or not (failed or all(phases)):
            where = f"arm {row['arm']!r} with seed {row.get('seed')}"
            raise UserError(f"{where} is there twice with different results; leave one of the runs out")
        rows[key] = max((held, row), key=lambda r: (len(r.get("phases") or []), not r.get("error")))
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


def print_table(results: dict[str, Any], console: Console) -> None:
    """Accuracy of each arm after each phase, and how the arms end, within 100 columns and never cut off."""
    summary = Summary(results)
    width = min(console.width, WIDTH)
    accuracy, ends = accuracy_sheet(summary), ends_sheet(summary)
    arms, *phases = _columns(accuracy)
    phases = [[_broken(name), *cells] for name, *cells in phases]
    for part in _that_fit(phases, width - min(24, max(map(len, arms)) + 1)):
        _print(console, accuracy.caption, [arms, *part], width)
    _print(console, ends.caption, _columns(ends), width)
    for note in summary.notes:
        console.print(Text(note, style="yellow"), width=width)


def _columns(sheet: Sheet) -> list[list[str]]:
    return [list(column) for column in zip(sheet.header, *sheet.formatted(), strict=True)]


def _broken(phase: str) -> str:
    """A numbered phase's name on two lines, so that a dozen of them fit beside each other."""
    return "\n-".join(phase.rsplit("-", 1))


def _that_fit(columns: list[list[str]], room: int) -> list[list[list[str]]]:
    groups: list[list[list[str]]] = []
    used = 0
    for column in columns:
        needed = max(cell_len(line) for cell in column for line in cell.split("\n")) + 1
        if not groups or used + needed > room:
            groups.append([])
            used = 0
        groups[-1].append(column)
        used += needed
    return groups


def _print(console: Console, title: str, columns: list[list[str]], width: int) -> None:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for i, column in enumerate(columns):
        # Text: a name such as "[red]" is no markup here
        table.add_column(Text(column[0]), justify="right" if i else "left", overflow="fold")
    for cells in list(zip(*columns, strict=True))[1:]:
        table.add_row(*map(Text, cells))
    console.print(Text(title, style="bold"), table, Text(), sep="\n", width=width)


def write_report(results: dict[str, Any], out: Path) -> Path:
    """Write `out/report.html`, `out/charts/*.png`, `out/tables/*.csv` and `*.tex`; returns the page's path.

    Raises:
        RunError: A file cannot be written; each file is whole or as it was.
    """
    summary = Summary(results)
    data = chart_data(summary)
    page = out / "report.html"
    write_atomically(page, _encoded(render_page(summary, data)))
    for name, png in draw_charts(data).items():
        write_atomically(out / "charts" / name, png)
    for sheet in sheets(summary):
        write_atomically(out / "tables" / f"{sheet.name}.csv", _encoded(sheet.csv()))
        write_atomically(out / "tables" / f"{sheet.name}.tex", _encoded(sheet.tex()))
    write_atomically(out / "tables" / "subnets.csv", _encoded(subnets_sheet(summary).csv()))
    return page


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", errors="replace")  # half a surrogate pair is valid JSON, but no text


def render_page(summary: Summary, data: dict[str, Any]) -> str:
    """The page: one HTML file that asks for nothing outside itself."""
    loader = PackageLoader("ofav2_plugins.ablation")
    jinja = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    jinja.filters["yaml"] = lambda value: yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    tables = {sheet.name: sheet for sheet in sheets(summary)}
    return jinja.get_template("report.html.j2").render(
        summary=summary, sheets=tables, data=data, paper=is_paper(summary)
    )


_VARIED = {"description", "width_mult", "teacher", "teacher_batch_statistics"}
_VARIED |= {"distillation", "kd_ratio", "exit_weights"}
_WIDTHS = (1.0, 1.2)


def is_paper(summary: Summary) -> bool:
    """Whether dataset and training are the paper's; what the paper's own ablations vary does not count."""
    paper = load_recipe("paper").model_dump(mode="json", exclude=_VARIED)
    recipes = summary.study["recipes"].values()
    same = all({key: recipe.get(key) for key in paper} == paper for recipe in recipes)
    widths = all(recipe.get("width_mult") in _WIDTHS for recipe in recipes)
    return summary.study["dataset"] == "tiny-imagenet" and bool(recipes) and same and widths
