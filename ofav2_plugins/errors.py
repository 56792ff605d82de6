"""The one exception whose message is written for the person at the keyboard."""


class UserError(ValueError):
    """Something the user can fix: one line that names the thing, what is allowed, what was given, and the remedy.

    The command line prints it without a traceback (with one under `--debug`).
    """


class RunError(UserError):
    """A run folder, checkpoint or disk is not in the state that the work needs."""


class DiskError(RunError):
    """Nothing can be written: the disk is full, or not writable."""


class RankError(RunError):
    """Another process of the same training has failed."""


def error_message(error: BaseException) -> str:
    """An exception as one line: what a `UserError` says, of others the type too."""
    try:
        message = " ".join(str(error).split())
    except Exception:  # the exception of a plugin may itself be broken
        message = "an exception without a message"
    return message if isinstance(error, UserError) else f"{type(error).__name__}: {message}"
