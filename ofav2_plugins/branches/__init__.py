"""Namespace `ofav2.branches`: what can stand beside the MB block at a position."""
