"""Namespace `ofav2.datasets`: labelled images, cached or streamed, and the batches made from them."""
