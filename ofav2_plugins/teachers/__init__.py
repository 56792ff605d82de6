"""Namespace `ofav2.teachers`: who teaches the subnets of a phase."""
