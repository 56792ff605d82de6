"""The ablation suite: studies, their runner, and their report."""
