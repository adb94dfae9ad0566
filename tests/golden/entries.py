"""Fixed entries of a layer; run as a program, their digest as this machine writes them."""

from __future__ import annotations

import platform

from nb2image.layers.entry import BytesContent, Entry, HardLink, Link
from nb2image.layers.write import WrittenLayer, write_layer

_TEXT = b"".join(b"line %d of a file that is neither random nor constant\n" % (n * n % 977) for n in range(40_000))


def written() -> WrittenLayer:
    return write_layer(
        [
            Entry("opt/empty", 0o644, BytesContent(b"")),
            Entry("opt/text", 0o644, BytesContent(_TEXT)),
            Entry("opt/tool", 0o755, BytesContent(b"#!/bin/sh\n")),
            Entry("opt/Ünïcode/" + "long" * 60, 0o664, BytesContent(b"name beyond ustar")),
            Entry("opt/link", 0o777, Link("tool")),
            Entry("work/tool", 0o755, HardLink("opt/tool")),
            Entry("work", 0o775, None),
        ],
        len,
    )


if __name__ == "__main__":
    print(written().digest, platform.machine())
