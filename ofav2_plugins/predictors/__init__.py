"""Namespace `ofav2.predictors`: what predicts the accuracy of an architecture from measured ones."""
