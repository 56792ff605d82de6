"""The report of a study: page, charts, tables."""
