"""Tables as text, CSV and LaTeX; the LaTeX is compiled."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess

import pytest
from support.report_samples import EE, NASTY, results, row, seeds

from ofav2_plugins.report.data_table import DataTable, PartialMean
from ofav2_plugins.report.page import write_report

TRICKY = [
    "[x]", "*y", "[1] & [2]", "=SUM(A1)", "+1", "-1", "@z", r"50 % of \SE_B & {x} #1 $~^", "a <b> |c| \"d\" 'e' `f`",
    "≤ 2.1 M, −1.5, –", "Zürich", "a\x07b",
]  # fmt: skip


def test_a_mean_over_fewer_seeds_says_so_to_people_and_is_a_number_in_csv():
    table = DataTable("t", "Caption", ["Arm", "full"], [["a", PartialMean(1.25, 2)], ["b", 1.5], ["c", None]])
    assert table.formatted() == [["a", "1.25 (2)"], ["b", "1.50"], ["c", "–"]]
    assert table.csv() == "Arm,full\na,1.25\nb,1.5\nc,\n"


def test_csv_guards_text_that_a_spreadsheet_would_take_for_a_formula():
    names = ["=SUM(A1)", "+1", "-1", "@z", "\tx", "=\ry"]
    table = DataTable("t", "Caption", ["Arm", "=phase", "value"], [[name, "a=b", -1.5] for name in names])
    header, *rows = csv.reader(io.StringIO(table.csv(), newline=""))
    assert header == ["Arm", "'=phase", "value"]
    assert [row[0] for row in rows] == ["'=SUM(A1)", "'+1", "'-1", "'@z", "'\tx", "'=\ny"]
    assert {tuple(row[1:]) for row in rows} == {("a=b", "-1.5")}


def test_csv_has_all_digits_and_no_nan():
    table = DataTable("t", "Caption", ["a,b", "x"], [['q"q', 70.123456789], ["n", float("nan")]])
    assert list(csv.reader(io.StringIO(table.csv()))) == [["a,b", "x"], ['q"q', "70.123456789"], ["n", ""]]


def test_tex_escapes_what_tex_would_take_for_commands():
    table = DataTable("t", "Two\nlines", ["Arm", "≤ 5"], [[name, 1.0] for name in TRICKY[:3] + TRICKY[7:8]])
    assert table.tex().splitlines() == [
        "% Two lines",
        r"\begin{tabular}{lr}",
        r"Arm & $\leq$ 5 \\",
        r"\hline",
        r"{}[x] & 1.00 \\",
        r"{}*y & 1.00 \\",
        r"{}[1] \& [2] & 1.00 \\",
        r"50 \% of \textbackslash{}SE\_B \& \{x\} \#1 \$\textasciitilde{}\textasciicircum{} & 1.00 \\",
        r"\end{tabular}",
    ]


def test_tex_says_if_pdflatex_cannot_set_a_character():
    tables = [DataTable("t", "Two", ["Arm"], [[name]]).tex() for name in ("é", "日本")]
    assert ["needs LuaLaTeX" in text for text in tables] == [False, True]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed (Debian: texlive-latex-base)")
def test_latex_compiles_every_table(tmp_path):
    """All tables of a report, and one with every tricky name in its first column, by a LaTeX without packages."""
    arms = [row(name, seed, names=EE) for seed in (0, 1) for name in ["OFA", *TRICKY, *NASTY[:-1]]]
    write_report(results(*arms), tmp_path / "report")
    write_report(seeds(3), tmp_path / "other")
    files = [*(tmp_path / "report" / "tables").glob("*.tex"), *(tmp_path / "other" / "tables").glob("*.tex")]
    assert len(files) > 15
    text = "\n\n".join(file.read_text(encoding="utf-8") for file in files)
    source = f"\\documentclass{{article}}\n\\begin{{document}}\n\\tiny\n{text}\n\\end{{document}}\n"
    (tmp_path / "all.tex").write_text(source, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    log = done.stdout.decode(errors="replace")
    assert done.returncode == 0, log[-2000:]
    assert not re.search(r"Missing character|Undefined control", log)
