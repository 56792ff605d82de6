"""The plan, and the training of one step: loss, training loop, checkpoints, cost."""
