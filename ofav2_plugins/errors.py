"""Exceptions whose messages are written for the user."""


class UserError(ValueError):
    """An error that the user can fix; its message is one line: the object, the allowed values, the given one, the fix.

    The command line prints the message without a traceback (`--debug` shows the traceback).
    """


class RunError(UserError):
    """A run folder, a checkpoint or a disk is not in the required state."""


class DiskError(RunError):
    """A file cannot be written: the disk is full or not writable."""
