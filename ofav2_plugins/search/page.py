"""The files of a search: search.json, front.png, report.html and the architectures' files."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..searchers.problem import METRICS
from ..utils.files import write_atomically, write_record
from .charts import draw_front
from .results import SEARCHED, plugin_words, search_title, write_archs
from .session import Search
from .targets import RESOLUTION


def write_search(content: dict[str, Any], search: Search, out: Path) -> list[Path]:
    """Write everything into `out`; returns the architectures' files in the order of the front.

    Raises:
        DiskError: A file cannot be written.
    """
    picture = draw_front(content, entries(content, search))
    write_atomically(out / "front.png", picture)
    archs = write_archs(content, out)
    write_atomically(out / "report.html", render(content, picture, archs).encode("utf-8", errors="replace"))
    write_record(out / SEARCHED, content)
    return archs


def entries(content: dict[str, Any], search: Search) -> dict[str, dict[str, Any]]:
    """The dimensions of the supernet, each with the entries that are part of each network of the front."""
    encoding, found = search.encoding, {}
    described = encoding.space.to_dict()
    archs = [{**row["arch"], RESOLUTION: row[RESOLUTION]} for row in content["front"]]
    active = encoding.active(encoding.encode(archs)) if archs else np.zeros((0, len(encoding.genes)), dtype=bool)
    for name, dim in described.items():
        if name != RESOLUTION:
            columns = [column for column, gene in enumerate(encoding.genes) if gene[0] == name]
            found[name] = {**dim, "active": active[:, columns].tolist()}
    return found


def render(content: dict[str, Any], picture: bytes, archs: list[Path]) -> str:
    """The page: one self-contained HTML file."""
    jinja = Environment(
        loader=PackageLoader("ofav2_plugins.search"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    jinja.filters["figure"] = figure
    return jinja.get_template("search.html.j2").render(
        content=content,
        title=search_title(content),
        plugins=plugin_words(content),
        metrics=METRICS,
        picture=base64.b64encode(picture).decode(),
        archs=[f"archs/{path.name}" for path in archs],
    )


def figure(value: float | None) -> str:
    """A number as text: 1.23 M, 456 k, 7.89."""
    if value is None:
        return "–"
    for scale, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= scale:
            return f"{value / scale:.3g}{unit}"
    return f"{value:.3g}"
