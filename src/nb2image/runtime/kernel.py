"""Start ipykernel out of a folder that stands *behind* the locked packages: ``python kernel.py FOLDER -f CONNECTION``.

Runs under the locked environment's Python when the lock has no ipykernel of its own.
"""

from __future__ import annotations

import sys


def main() -> None:
    support = sys.argv.pop(1)
    # Python put this file's folder in front; the kernel must find nothing in it.
    del sys.path[0]
    sys.path.append(support)
    from ipykernel import kernelapp

    kernelapp.launch_new_instance()


if __name__ == "__main__":
    main()
