"""Notebooks as documents, and the locks that stand in or beside them."""
