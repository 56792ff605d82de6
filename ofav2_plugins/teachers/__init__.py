"""Namespace `ofav2.teachers`: teacher policies."""
