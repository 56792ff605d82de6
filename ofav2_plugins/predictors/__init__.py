"""Namespace `ofav2.predictors`: regressions from measured architectures to the accuracy of others."""
