"""Studies: their schema, results and statistics."""
