"""Compiles sources that come on stdin to bytecode on stdout; runs under the *target's* Python, 3.8 and later.

Per source: two 32-bit lengths, path and text in, one length and a .pyc out (length 0: it does not compile). The .pyc is
an unchecked hash-based one (PEP 552): valid whatever the time stamps are, and read without looking at the source.
"""

import importlib.util
import marshal
import struct
import sys
import warnings


def compiled(path: str, source: bytes) -> bytes:
    """The .pyc of one source, or nothing when this Python cannot compile it, as for ``pip install``."""
    try:
        code = marshal.dumps(compile(source, path, "exec", dont_inherit=True))
    except (SyntaxError, ValueError, UnicodeError, RecursionError, MemoryError, OverflowError):
        return b""
    # PEP 552: magic number, flags 0b01 (hash-based, unchecked), SipHash of the source, marshalled code.
    return b"".join((importlib.util.MAGIC_NUMBER, b"\x01\0\0\0", importlib.util.source_hash(source), code))


def main() -> None:
    warnings.simplefilter("ignore")
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while True:
        head = stdin.read(8)
        if len(head) < 8:
            return
        path_size, source_size = struct.unpack("<II", head)
        path = stdin.read(path_size).decode()
        result = compiled(path, stdin.read(source_size))
        stdout.write(struct.pack("<I", len(result)))
        stdout.write(result)
        stdout.flush()


if __name__ == "__main__":
    main()
