"""Namespace `ofav2.searchers`: which architectures a search evaluates next."""
