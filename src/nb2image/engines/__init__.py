"""Docker and podman: load an image, run it."""
