"""Results to report on, and a parser that reads a report's page as a browser does."""

from __future__ import annotations

import html.parser
import io
import math

from rich.console import Console

from ofav2_plugins.report.console import print_table
from ofav2_plugins.report.page import write_report

SE = ["full", "kernel", "depth-1", "depth-2", "width-1", "width-2"]
EE = [*SE[:2], "height-1", "height-2", "height-3", "height-4", *SE[2:]]
NASTY = [
    "<script>alert('x')</script>",
    "</script><!--",
    "\"quoted\" & 'more' {{ 7 * 7 }}",
    "$x_1$ 50 %",
    "_日本語",
]


def subnet(top1, size, height=None):
    arch = {"ks": [size] * 20, "e": [6] * 20, "d": [4] * 5}
    if height:
        arch["height"] = height
    macs = size * 1_000_000 + (height or 5)
    return {
        "arch": arch,
        "resolution": 32,
        "ensemble": False,
        "val_top1": top1 + 0.25,
        "top1": top1,
        "macs": macs,
        "params": macs // 10,
    }


def phase(name, top1, heights=(None,)):
    subnets = [subnet(top1 - 7 + size - (5 - (h or 5)), size, h) for h in heights for size in (3, 5, 7)]
    accuracies = [each["top1"] for each in subnets]
    return {
        "name": name,
        "best_top1": top1,
        "test_max_top1": top1 + 0.125,
        "mean_top1": sum(accuracies) / len(accuracies),
        "min_top1": min(accuracies),
        "seconds": 61.5,
        "subnets": subnets,
    }


def row(arm, seed=0, base=70.0, names=SE, steps=None):
    phases = [phase(n, base + i + seed / 8, (1, 3, 5) if "height" in n else (None,)) for i, n in enumerate(names)]
    return {"arm": arm, "supernet": "SE_B", "teacher": "fixed", "seed": seed, "steps": steps or names, "phases": phases}


def results(*rows, baseline="OFA", **study):
    return {
        "study": {
            "name": "ablate",
            "description": "Two of them.",
            "baseline": baseline,
            "dataset": "fashion-mini",
            "recipes": {each["arm"]: {"width_mult": 0.25} for each in rows},
            "command": "ofav2 ablate quick --out x",
            **study,
        },
        "environment": {"date": "2025-01-05 12:00:00", "processor": "Z80 <3.5 MHz>", "torch": "2.5.1"},
        "rows": list(rows),
    }


def two(**study):
    return results(row("OFA"), row("OFAv2", base=71.5, names=EE), **study)


def seeds(n=2):
    """The two arms with several seeds; the differences are 5.5 points at each."""
    return results(*(row(a, s, b, names) for s in range(n) for a, b, names in (("OFA", 70.0, SE), ("OFAv2", 71.5, EE))))


def shifted(value, arm, *shifts):
    """The same results, in which the arm's final accuracy is shifted, seed by seed."""
    rows = [each for each in value["rows"] if each["arm"] == arm]
    for each, shift in zip(rows, shifts, strict=True):
        each["phases"][-1]["best_top1"] += shift
    return value


def no_numbers():
    value = two()
    for each in value["rows"]:
        for entry in each["phases"]:
            entry.update(dict.fromkeys(("best_top1", "mean_top1", "min_top1", "test_max_top1", "seconds"), math.nan))
            for measured in entry["subnets"]:
                measured.update(top1=math.nan, macs=math.inf, val_top1=None)
    return value


def bare():
    """Only what is required."""
    return {
        "study": {"baseline": "OFA"},
        "rows": [{"arm": "OFA", "phases": [{"name": "full"}]}, {"arm": "B"}],
    }


EDGES = {
    "one arm": results(row("OFA")),
    "16 arms": results(*(row(f"arm {i}", s, 60 + i, EE) for i in range(16) for s in (0, 1)), baseline="arm 3"),
    "one phase": results(row("OFA", names=["full"]), row("B", names=["full"])),
    "no phases": results({"arm": "OFA", "seed": 0, "phases": []}),
    "no subnets": results({"arm": "OFA", "seed": 0, "phases": [{**phase("full", 70.0), "subnets": []}]}),
    "no rows": results(),
    "no numbers": no_numbers(),
    "bare": bare(),
    "failed arms": results(
        row("OFA"), {**row("B", names=SE[:3], steps=SE), "error": "disk full"}, {"arm": "C", "error": "x"}
    ),
    "own phases": results(row("OFA", names=["warm", "up"]), row("B", names=["up", "warm"])),
}


class Page(html.parser.HTMLParser):
    """A parsed page: tags with attributes, scripts and styles, text, tables by id."""

    VOID = ("meta", "link", "br", "img", "input", "hr")

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.texts, self.open, self.tables = [], [], [], {}
        self.text, self.code, self.data = "", "", ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.texts.append("")
        if tag not in self.VOID:
            self.open.append((tag, dict(attrs)))
        if tag == "table":
            self.table = self.tables.setdefault(dict(attrs)["id"], [])
        if tag == "tr":
            self.table.append([])
        if tag in ("td", "th"):
            self.table[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.texts:
            self.texts[-1] += data  # of the tag that was opened last
        inside, attributes = self.open[-1] if self.open else ("", {})
        if attributes.get("id") == "data":
            self.data += data
        elif inside in ("script", "style"):
            self.code += data
        else:
            self.text += data
            if any(tag in ("td", "th") for tag, _ in self.open):
                self.table[-1][-1] += data

    def by_row(self, table):
        header, *rows = self.tables[table]
        return {cells[0]: dict(zip(header[1:], cells[1:], strict=True)) for cells in rows}


def page_of(value, folder):
    return Page(write_report(value, folder).read_text(encoding="utf-8"))


def words(text):
    return " ".join(text.split())


def printed(value, width=100):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_table(value, console)
    return console.file.getvalue()
