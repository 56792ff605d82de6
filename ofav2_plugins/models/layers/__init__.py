"""Layers of the supernet: subclasses of upstream's dynamic layers."""
