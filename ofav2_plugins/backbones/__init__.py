"""Namespace `ofav2.backbones`: the networks that a supernet extends."""
