"""Namespace `ofav2.distillation`: what a student learns from its teacher's logits."""
