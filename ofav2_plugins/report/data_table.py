"""A table of a report and its console, HTML, CSV and LaTeX forms."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

MISSING = "–"
LAST_LATIN = "\u017f"
"""The last character of Unicode's block "Latin Extended-A", which pdfLaTeX supports."""


class PartialMean(float):
    """A mean over fewer seeds than the rest of its row; its formatted text includes the number of seeds."""

    def __new__(cls, value: float, n: int) -> PartialMean:
        """A mean over `n` seeds."""
        mean = super().__new__(cls, value)
        mean.n = n
        return mean

    n: int


@dataclass(frozen=True)
class DataTable:
    """A table; numbers are formatted only for display.

    Args:
        name: File name.
        caption: A description of the numbers, with their unit.
        header: Column names.
        rows: Text, numbers, or None if there is no value.
        digits: Decimals of formatted numbers; CSV has full precision.
    """

    name: str
    caption: str
    header: list[str]
    rows: list[list[Any]]
    digits: int = 2

    def formatted(self) -> list[list[str]]:
        """The rows as text."""
        return [[self._cell(value) for value in row] for row in self.rows]

    def _cell(self, value: Any) -> str:
        if value is None:
            return MISSING
        text = f"{value:.{self.digits}f}" if isinstance(value, float) else str(value)
        return f"{text} ({value.n})" if isinstance(value, PartialMean) else text

    def csv(self) -> str:
        """As CSV with a header line; missing values are empty fields.

        Text that a spreadsheet would interpret as a formula is prefixed with an apostrophe.
        """
        text = io.StringIO()
        rows = [[None if value != value else _no_formula(value) for value in row] for row in self.rows]  # no NaN
        csv.writer(text, lineterminator="\n").writerows([list(map(_no_formula, self.header)), *rows])
        return text.getvalue()

    def tex(self) -> str:
        """As a LaTeX tabular that needs no package; a comment notes if pdfLaTeX cannot typeset its characters."""
        head, *body = [" & ".join(map(_tex, row)) + r" \\" for row in [self.header, *self.formatted()]]
        columns = "l" + "r" * (len(self.header) - 1)
        lines = [rf"\begin{{tabular}}{{{columns}}}", head, r"\hline", *body, r"\end{tabular}"]
        content = "\n".join(lines) + "\n"
        engine = "" if max(content) <= LAST_LATIN else "% needs LuaLaTeX or XeLaTeX, and a font with its characters\n"
        return f"% {' '.join(self.caption.split())}\n{engine}{content}"


def _no_formula(value: Any) -> Any:
    if isinstance(value, PartialMean):
        return float(value)
    if not isinstance(value, str):
        return value
    text = value.replace("\r", "\n")  # the csv module would not quote "\r"
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text


_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "≤": r"$\leq$",
    "−": "$-$",
    MISSING: "--",
    **{char: "\\" + char for char in "&%$#_{}"},
}


def _tex(text: str) -> str:
    r"""Text for a cell. After `\\`, LaTeX would parse a leading "[" or "*" as an argument of the line break."""
    words = " ".join(text.split())
    guard = "{}" if words.startswith(("[", "*")) else ""
    return guard + "".join(_TEX.get(char, char) for char in words if char.isprintable())
