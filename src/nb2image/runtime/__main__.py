"""Start an entry point: ``python /opt/nb2image/lib jupyter|batch NOTEBOOK [ARGUMENTS…]``.

In an image the folder ``/opt/nb2image/lib`` holds this file and, below ``nb2image/runtime``, its neighbours; running
the folder puts it, and no other, in front on ``sys.path``.
"""

from __future__ import annotations

import importlib
import sys

if __name__ == "__main__":
    mode, notebook, *arguments = sys.argv[1:]
    sys.exit(importlib.import_module(f"nb2image.runtime.{mode}").main(notebook, arguments))
