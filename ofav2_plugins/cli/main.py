"""The console script."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

import typer
from rich.console import Console

from ..errors import UserError
from ..registry import explain
from ..utils.progress import say
from ..utils.signals import interrupted_by_sigterm
from . import (  # noqa: F401 - each adds its command
    ablate,
    bench,
    data,
    doctor,
    export,
    finetune,
    plan,
    plugins,
    predict,
    profile,
    recipe,
    report,
    search,
    train,
    watch,
)
from .app import app


def main() -> None:
    """The console script: errors are printed as one line with a non-zero exit code; --debug shows the traceback."""
    # Before torch is imported: OpenMP threads that wait spin for long, which is slow if another process starts later;
    # threads that sleep soon are slow on an idle machine. See benchmarks/under_load.py.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    errors = Console(stderr=True)
    try:
        _check_arguments(arguments)
        with interrupted_by_sigterm():
            code = app(args=arguments, prog_name="ofav2", standalone_mode=False) or 0
        if code == 130:  # typer's exit code for Ctrl-C
            say(errors, "stopped", "yellow")
        sys.exit(code)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        usage = getattr(error, "format_message", None)  # typer's own errors: a wrong option or value
        if usage is not None and not usage():
            sys.exit(2)  # no command: typer has printed the help
        if usage is not None:
            message = f"{usage()}{_given(error, arguments)} (see `ofav2 --help`)"
        elif isinstance(error, UserError):
            message = str(error)
        else:
            message = f"{explain(error)} (an unexpected error; --debug shows where)"
        say(errors, f"error: {' '.join(message.split())}", "red")
        sys.exit(2 if usage is not None else 1)


def _check_arguments(arguments: Sequence[str]) -> None:
    """Raise UserError for an empty argument, which as a path would be the current folder."""
    for previous, argument in zip(["", *arguments], arguments, strict=False):
        named = re.fullmatch(r"(--[\w-]+)=", argument)
        if named or not argument:
            place = f"{named[1]} must" if named else f"the argument after {previous!r} must"
            raise UserError(f"{place} not be empty, but got ''; is a shell variable unset?")


def _given(error: Exception, arguments: Sequence[str]) -> str:
    """The wrong value of an option, as the end of typer's message about it; "" if the message contains it."""
    if not isinstance(error, typer.BadParameter) or error.param is None:
        return ""
    for argument, value in zip(arguments, [*arguments[1:], None], strict=True):
        name, equals, attached = argument.partition("=")
        given = attached if equals else value
        if name in error.param.opts and given is not None and repr(given) not in error.message:
            return f", but got {given!r}"
    return ""
