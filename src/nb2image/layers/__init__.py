"""Entries become layers: the one place that knows tar and gzip."""
