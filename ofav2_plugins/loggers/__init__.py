"""Namespace `ofav2.loggers`: recipients of the events of a run."""
