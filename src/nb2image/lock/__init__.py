"""The one lock model that every format is turned into."""
