"""Container engines on this machine: Docker and podman, both through the Docker Engine API.

``discovery`` says where an engine would listen, ``client`` talks to it, ``load`` hands images over, ``run`` runs them.
"""
