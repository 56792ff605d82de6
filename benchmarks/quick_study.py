"""Record the quick study: run `ofav2 ablate quick` as a process, keep its results, report and charts.

    python benchmarks/quick_study.py [RUN_FOLDER]

Writes benchmarks/results/quick/ (results.json with machine and date, report.html, charts, tables) and prints the
seconds that the whole process took.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TARGET = Path(__file__).parent / "results" / "quick"


def main() -> None:
    """Run the study into a fresh folder (or continue the one given) and copy what it wrote."""
    run = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "run"
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "ofav2_plugins", "ablate", "quick", "--out", str(run), "--resume"], check=True
    )
    print(f"the whole process took {time.monotonic() - started:.0f} s")
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir(parents=True)
    for name in ("results.json", "report.html"):
        shutil.copy(run / name, TARGET / name)
    for folder in ("charts", "tables"):
        shutil.copytree(run / folder, TARGET / folder)


if __name__ == "__main__":
    main()
