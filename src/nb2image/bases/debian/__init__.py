"""Bases made of Debian packages."""

from nb2image.bases.debian.lock import BaseLock
from nb2image.bases.debian.mirrors import Mirrors
from nb2image.bases.debian.provider import DebianProvider, update_lock

__all__ = ["BaseLock", "DebianProvider", "Mirrors", "update_lock"]
