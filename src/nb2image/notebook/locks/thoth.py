"""Thoth: the locks that jupyter-nbrequirements (2019) and jupyterlab-requirements (2020 to 2022) embed.

The Pipfile stands under ``requirements``, the Pipfile.lock under a key whose name changed twice; each is an object,
a JSON string, or a JSON string of a JSON string. What varies inside is dealt with in `nb2image.notebook.locks.pipfile`.
"""

from __future__ import annotations

from nb2image.lock.model import Lock
from nb2image.notebook.locks.pipfile import Pipfile, lock_from_pipfile_lock
from nb2image.notebook.locks.place import Format, Place
from nb2image.notebook.locks.values import json_object

__all__ = ["THOTH"]


def _read(place: Place) -> Lock:
    document = json_object(place.value, place.where)
    pipfile = None
    value = place.notebook.metadata.get("requirements")
    if value is not None and value != "":
        where = f"{place.notebook.name}: metadata.requirements"
        pipfile = Pipfile.from_object(json_object(value, where), where)
    return lock_from_pipfile_lock(document, place, pipfile, "metadata.requirements")


THOTH = Format(
    "Thoth",
    _read,
    keys=("requirements_lock", "requirements_locked", "requirement_lock"),
)
