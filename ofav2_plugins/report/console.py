"""Prints the tables and the headline at the end of a study."""

from __future__ import annotations

from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..study.summary import Summary
from .data_table import DataTable
from .headline import headline
from .search_tables import budget_table
from .tables import accuracy_table, outcomes_table

WIDTH = 100


def print_table(results: dict[str, Any], console: Console) -> None:
    """Print each arm's accuracy after each phase, its outcome, and the headline, untruncated within 100 columns."""
    summary = Summary(results)
    width = min(console.width, WIDTH)
    searched = [budget_table(summary)] if summary.search_measures else []
    for table in (accuracy_table(summary), outcomes_table(summary), *searched):
        arms, *columns = _columns(table)
        columns = [[_broken(name), *cells] for name, *cells in columns]
        for part in _groups_that_fit(columns, width - min(24, max(map(cell_len, arms)) + 1)):
            _print(console, table.caption, [arms, *part], width)
    for note in summary.notes:
        console.print(Text(note, style="yellow"), width=width)
    console.print(Text(headline(summary), style="bold"), width=width)


def _columns(table: DataTable) -> list[list[str]]:
    return [list(column) for column in zip(table.header, *table.formatted(), strict=True)]


def _broken(name: str) -> str:
    """Break the name of a numbered phase, or a name of several words, into two lines, so that a dozen columns fit."""
    return "\n-".join(name.rsplit("-", 1)) if "-" in name else name.replace(" ", "\n", 1)


def _groups_that_fit(columns: list[list[str]], room: int) -> list[list[list[str]]]:
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
        # Text, so that a name such as "[red]" is not treated as markup
        table.add_column(Text(column[0]), justify="right" if i else "left", overflow="fold")
    for cells in list(zip(*columns, strict=True))[1:]:
        table.add_row(*map(Text, cells))
    console.print(Text(title, style="bold"), table, Text(), sep="\n", width=width)
