"""Whether an image is what its lock gives."""
