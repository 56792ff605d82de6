"""Namespace `ofav2.skips`: the wiring of the blocks of a stage."""
