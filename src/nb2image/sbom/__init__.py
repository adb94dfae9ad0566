"""The bill of materials of an image (CycloneDX 1.6): packages, base and notebook."""
