"""What provides base images: Debian packages, an OCI layout or archive, a registry."""
