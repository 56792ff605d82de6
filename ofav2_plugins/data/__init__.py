"""Namespace `ofav2.datasets`: images as uint8 arrays of one size, and the batches made from them."""
