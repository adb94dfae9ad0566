"""Wheels become entries; the zip is read as if somebody hostile had written it."""
