"""Namespace `ofav2.exits`: where the network can end."""
