"""Plugins of a third party, as pip would install them: metadata with entry points, and a module."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def third_party(folder: Path, entries: Mapping[str, str], module: str, name: str = "thirdparty") -> dict[str, str]:
    """The environment of a process that has the package.

    Args:
        folder: Where it is written to.
        entries: Namespace -> class in the module; the plugin's name is the class's in lower case.
        module: Its source.
        name: Of distribution and module.
    """
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    points = (f"[{namespace}]\n{target.lower()} = {name}:{target}\n" for namespace, target in entries.items())
    (info / "entry_points.txt").write_text("\n".join(points))
    (folder / f"{name}.py").write_text(module)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
