"""System packages on top of a Debian base, as one layer: without root, and without running anything."""
