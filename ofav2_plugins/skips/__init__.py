"""Namespace `ofav2.skips`: how the blocks of a stage are wired."""
