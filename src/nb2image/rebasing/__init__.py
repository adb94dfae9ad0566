"""An image's layers on another base."""
