"""Namespace `ofav2.optimizers`: the optimizer of a training and its learning-rate schedule."""
