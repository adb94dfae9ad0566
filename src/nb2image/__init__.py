"""nb2image: a locked notebook goes in, a reproducible container image comes out."""

__all__ = ["__version__"]

__version__ = "0.1.0"
