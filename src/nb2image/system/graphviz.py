"""Graphviz knows its plug-ins by a file that ``dot -c`` writes, which its script runs; here it is made of a table.

The table has what each plug-in of the libraries' version 6 (Graphviz 2.42, in every suite since bullseye) registers, as
``dot -c`` tells it; a plug-in whose package was not added is left out.
"""

from __future__ import annotations

import re
from importlib import resources

from nb2image.system.overlay import Overlay

__all__ = ["register_plugins"]

_CONFIGURATION = "config6a"


def register_plugins(tree: Overlay) -> None:
    """Write the file where Graphviz's plug-ins are."""
    for folder in {entry.path.rpartition("/")[0] for entry in tree if "/graphviz/libgvplugin_" in entry.path}:
        text = (resources.files("nb2image") / "images" / "system" / "graphviz-6.txt").read_text(encoding="utf-8")
        blocks = re.findall(r"^(lib\S+) (.*?^\}\n)", text, re.MULTILINE | re.DOTALL)
        known = [f"{library} {body}" for library, body in blocks if f"{folder}/{library}" in tree]
        if known:
            tree.file(f"{folder}/{_CONFIGURATION}", "".join(known))
