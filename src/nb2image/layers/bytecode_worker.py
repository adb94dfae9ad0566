"""Compiles sources that come on stdin to bytecode on stdout; runs under the *target's* Python, 3.8 and later.

Per source: two 32-bit lengths, path and text in, one length and a .pyc out (length 0: it does not compile). The .pyc is
an unchecked hash-based one (PEP 552): valid whatever the time stamps are, and read without looking at the source.

One process starts for each wheel, on a Python that may have no bytecode of its standard library: so this imports only
what every interpreter holds anyway, for which importlib.util, struct and warnings are the public names.
"""

import _imp
import _warnings
import gc
import marshal
import os
import sys
from _frozen_importlib_external import MAGIC_NUMBER

_MAGIC = int.from_bytes(MAGIC_NUMBER, "little")


def compiled(path: str, source: bytes) -> bytes:
    """The .pyc of one source, or nothing when this Python cannot compile it, as for ``pip install``."""
    try:
        code = marshal.dumps(compile(source, path, "exec", dont_inherit=True))
    except (SyntaxError, ValueError, UnicodeError, RecursionError, MemoryError, OverflowError):
        return b""
    # PEP 552: magic number, flags 0b01 (hash-based, unchecked), SipHash of the source, marshalled code.
    return b"".join((MAGIC_NUMBER, b"\x01\0\0\0", _imp.source_hash(_MAGIC, source), code))


def main() -> None:
    # What warnings.simplefilter("ignore") inserts.
    _warnings.filters.insert(0, ("ignore", None, Warning, None, 0))
    gc.disable()  # compiling leaves no cycles: 6 % faster
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while True:
        head = stdin.read(8)
        if len(head) < 8:
            os._exit(0)  # nothing to tidy up
        path = stdin.read(int.from_bytes(head[:4], "little")).decode()
        result = compiled(path, stdin.read(int.from_bytes(head[4:], "little")))
        stdout.write(len(result).to_bytes(4, "little"))
        stdout.write(result)
        stdout.flush()


if __name__ == "__main__":
    main()
