"""Namespace `ofav2.exit_rules`: when an early exit is confident enough to answer."""
