"""Search: from a trained supernet to the best subnets under a user's limits."""
