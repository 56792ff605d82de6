"""Recipes: everything about a training except the supernet, the data and the seed."""
