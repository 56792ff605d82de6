"""One step of the plan: the plan itself, the loss, the training loop, its checkpoints and its cost."""
