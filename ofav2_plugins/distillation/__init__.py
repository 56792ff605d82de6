"""Namespace `ofav2.distillation`: distillation losses."""
