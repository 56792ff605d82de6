"""Exceptions whose messages are written for the user."""


class UserError(ValueError):
    """An error that the user can fix. Its message is one line: object, allowed values, given value, fix.

    The command line prints the message without a traceback (`--debug` shows the traceback).
    """


class RunError(UserError):
    """A run folder, a checkpoint or a disk is not in the required state."""


class DiskError(RunError):
    """A file cannot be written: the disk is full or not writable."""


class RankError(RunError):
    """Another process of the same training has failed."""


class ProcessGroupError(RunError):
    """This process has failed while others waited for its results; all processes must end."""


def error_message(error: BaseException) -> str:
    """An exception as one line: the message of a `UserError`; the type and the message of other exceptions."""
    try:
        message = " ".join(str(error).split())
    except Exception:  # the exception of a plugin may itself be broken
        message = "an exception without a message"
    return message if isinstance(error, UserError) else f"{type(error).__name__}: {message}"
