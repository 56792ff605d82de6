"""Accuracy, cost and latency of subnets."""
