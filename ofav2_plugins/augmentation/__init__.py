"""Namespace `ofav2.augmentations`: training transforms of whole batches, on torchvision's v2 transforms."""
