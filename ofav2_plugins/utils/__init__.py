"""General-purpose tools that know nothing about networks."""
