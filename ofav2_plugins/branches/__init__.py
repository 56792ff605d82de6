"""Namespace `ofav2.branches`: blocks in parallel with the backbone's block at a position."""
