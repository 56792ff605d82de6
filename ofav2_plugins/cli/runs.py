"""Shared by `train` and `ablate`: runs a session, prints its table, writes its report."""

from __future__ import annotations

from ..errors import RunError
from ..report.console import print_table
from ..report.page import write_report
from ..study.session import Session, SessionOptions, run_session
from ..utils.progress import say
from .app import console
from .options import stopped


def run_and_report(session: Session, options: SessionOptions) -> None:
    """Run the arms of a session, then print the table and write the report (only in the first process).

    Raises:
        RunError: One of several arms failed; the report shows the others.
    """
    with stopped(options.out):
        results = run_session(session, options, console)
    if results.fabric.is_global_zero:
        print_table(results.content, console)
        say(console, f"report: {write_report(results.content, options.out)}")
    if results.failed:
        raise RunError(
            f"{len(results.failed)} of {len(session.arms)} arms failed, see above; --resume tries them again"
        )
