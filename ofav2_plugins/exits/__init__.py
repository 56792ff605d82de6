"""Namespace `ofav2.exits`: after which stages the network can end."""
