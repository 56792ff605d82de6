"""The table that a study prints when it ends."""

from __future__ import annotations

from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..study.summary import Summary
from .tables import DataTable, accuracy_table, final_results_table

WIDTH = 100


def print_table(results: dict[str, Any], console: Console) -> None:
    """Accuracy of each arm after each phase, and how the arms end, within 100 columns and never cut off."""
    summary = Summary(results)
    width = min(console.width, WIDTH)
    accuracy, ends = accuracy_table(summary), final_results_table(summary)
    arms, *phases = _columns(accuracy)
    phases = [[_broken(name), *cells] for name, *cells in phases]
    for part in _that_fit(phases, width - min(24, max(map(len, arms)) + 1)):
        _print(console, accuracy.caption, [arms, *part], width)
    _print(console, ends.caption, _columns(ends), width)
    for note in summary.notes:
        console.print(Text(note, style="yellow"), width=width)


def _columns(table: DataTable) -> list[list[str]]:
    return [list(column) for column in zip(table.header, *table.formatted(), strict=True)]


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
