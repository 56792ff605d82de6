"""Studies: their schema, their results and what the results say."""
