"""Bases made of Debian packages."""

from nb2image.bases.debian.lock import BaseLock
from nb2image.bases.debian.mirrors import Mirrors
from nb2image.bases.debian.provider import DebianProvider
from nb2image.bases.debian.toolchain import toolchain_image
from nb2image.bases.debian.update import update_locks

__all__ = ["BaseLock", "DebianProvider", "Mirrors", "toolchain_image", "update_locks"]
