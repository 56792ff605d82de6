"""The one exception whose message is written for the person at the keyboard."""


class UserError(ValueError):
    """Something the user can mend: one line that names the thing, what is allowed, what was given, what to do.

    The command line prints it without a traceback (with one under `--debug`).
    """


class RunError(UserError):
    """A run folder, checkpoint or disk is not in the state that the work needs."""


class DiskError(RunError):
    """Nothing can be written: the disk is full, or not writable."""
