"""Record a run: call `ofav2` and copy its results, report, charts and tables to benchmarks/results.

    python benchmarks/record.py quick ablate quick
    python benchmarks/record.py proxy-ee_d train --supernet EE_D --teacher progressive --recipe proxy \
        --dataset tiny-imagenet --root DATA --threads 1

The first argument names the folder in benchmarks/results; the others are the command without --out. The run folder is
runs/<name>; the next call continues an interrupted one. Prints the duration of the process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Run the command with --out runs/<name> and copy its results."""
    name, *command = sys.argv[1:]
    run, target = Path("runs") / name, Path("benchmarks/results") / name
    os.chdir(HERE.parent)  # the recorded command must not contain a path of this machine
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "ofav2_plugins", *command, "--out", str(run), "--resume"], check=True)
    print(f"the whole process took {time.monotonic() - started:.0f} s")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for file in ("results.json", "report.html"):
        shutil.copy(run / file, target / file)
    for folder in ("charts", "tables"):
        shutil.copytree(run / folder, target / folder)


if __name__ == "__main__":
    main()
