"""Namespace `ofav2.searchers`: which architectures a search looks at next."""
