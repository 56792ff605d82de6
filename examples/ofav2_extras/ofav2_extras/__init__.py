"""Example plugins for ofav2-plugins."""
