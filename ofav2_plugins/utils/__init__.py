"""General-purpose tools that do not depend on networks."""
