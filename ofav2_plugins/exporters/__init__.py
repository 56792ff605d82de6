"""Namespace `ofav2.exporters`: file formats of a deployed network."""
