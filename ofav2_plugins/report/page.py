"""Writing a report: one HTML page, its charts as PNG, its tables as CSV and LaTeX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..recipes.schema import load_recipe
from ..study.composition import common_parts
from ..study.summary import Summary
from ..utils.files import write_atomically
from .chart_data import chart_data
from .charts import draw_charts
from .data_table import DataTable
from .headline import details, headline
from .search_tables import budget_table, chosen_table, difference_table
from .tables import all_tables, difference_text, outcome_differences_matrix, subnets_table


def write_report(results: dict[str, Any], out: Path) -> Path:
    """Write `out/report.html`, `out/charts/*.png`, `out/tables/*.csv` and `*.tex`; returns the page's path.

    Raises:
        UserError: The results are inconsistent (an unknown baseline, two different rows with the same arm and seed).
        RunError: A file cannot be written; each existing file is complete or unchanged.
    """
    summary = Summary(results)
    data = chart_data(summary)
    page = out / "report.html"
    write_atomically(page, _encoded(render_page(summary, data)))
    for name, png in draw_charts(data).items():
        write_atomically(out / "charts" / name, png)
    for table in [*all_tables(summary), *_search_tables(summary), *_chosen(summary)]:
        write_atomically(out / "tables" / f"{table.name}.csv", _encoded(table.csv()))
        write_atomically(out / "tables" / f"{table.name}.tex", _encoded(table.tex()))
    write_atomically(out / "tables" / "subnets.csv", _encoded(subnets_table(summary).csv()))
    return page


def _search_tables(summary: Summary) -> list[DataTable]:
    tables = (budget_table(summary), difference_table(summary)) if summary.search_measures else ()
    return [table for table in tables if table.rows]


def _chosen(summary: Summary) -> list[DataTable]:
    return [chosen_table(summary)] if summary.search_measures else []


def is_report(page: Path) -> bool:
    """Whether a file is a page that `write_report` has written."""
    with open(page, "rb") as file:
        return b'<meta name="generator" content="ofav2-plugins">' in file.read(1000)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", errors="replace")  # a lone surrogate is valid in JSON, but cannot be encoded


def render_page(summary: Summary, data: dict[str, Any]) -> str:
    """The page: one HTML file without external resources."""
    loader = PackageLoader("ofav2_plugins.report")
    jinja = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    jinja.filters["yaml"] = lambda value: yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    jinja.filters["difference"] = difference_text
    return jinja.get_template("report.html.j2").render(
        summary=summary,
        headline=headline(summary),
        details=details(summary),
        tables={table.name: table for table in [*_search_tables(summary), *all_tables(summary)]},
        matrix=outcome_differences_matrix(summary),
        common=common_parts(summary.compositions),
        data=data,
        paper=is_paper(summary),
    )


_VARIED = {"description", "width_mult", "teacher", "teacher_batch_statistics"}
_VARIED |= {"distillation", "kd_ratio", "exit_weights"}
_WIDTHS = (1.0, 1.2)


def is_paper(summary: Summary) -> bool:
    """Whether dataset and training match the paper, except for the settings that its own ablations vary."""
    paper = load_recipe("paper", load_plugins=False).model_dump(mode="json", exclude=_VARIED)
    recipes = summary.study["recipes"].values()
    same = all({key: recipe.get(key) for key in paper} == paper for recipe in recipes)
    widths = all(recipe.get("width_mult") in _WIDTHS for recipe in recipes)
    return summary.study["dataset"] == "tiny-imagenet" and bool(recipes) and same and widths
