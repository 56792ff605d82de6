"""The command line: one module per command; each parses, builds and calls. torch is imported inside commands."""
