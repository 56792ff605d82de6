"""One reusable check per plugin namespace; third parties can call them for plugins of their own."""
