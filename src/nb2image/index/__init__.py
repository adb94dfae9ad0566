"""Package indexes: what files there are, which one fits, and the bytes."""
