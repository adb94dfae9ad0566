"""A proxy on loopback through which everything together comes at a fixed rate: a line slower than this machine's."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

__all__ = ["throttled"]

_PIECE = 16 << 10


class _Line:
    """Bytes that may pass; ``rate`` in bytes per second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free = time.monotonic()

    async def pass_on(self, size: int) -> None:
        self._free = max(self._free, time.monotonic()) + size / self._rate
        await asyncio.sleep(self._free - time.monotonic())


@contextlib.contextmanager
def throttled(rate: float) -> Iterator[str]:
    """The URL of a proxy (for ``http_proxy`` and ``https_proxy``) that lets ``rate`` bytes pass per second."""
    line = _Line(rate)
    started: list[tuple[asyncio.AbstractEventLoop, int]] = []
    ready = threading.Event()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slowly: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_PIECE):
                if slowly:
                    await line.pass_on(len(piece))
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        # RFC 9110, 9.3.6: CONNECT names host and port; RFC 9112, 3.2.2: servers take the absolute form as well.
        url = urlsplit(f"//{target}" if method == "CONNECT" else target)
        far_reader, far_writer = await asyncio.open_connection(url.hostname, url.port or 80)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        else:
            far_writer.write(head)
        await asyncio.gather(relay(reader, far_writer, slowly=False), relay(far_reader, writer, slowly=True))

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        started.append((asyncio.get_running_loop(), server.sockets[0].getsockname()[1]))
        ready.set()
        with contextlib.suppress(asyncio.CancelledError):
            await server.serve_forever()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    ready.wait()
    loop, port = started[0]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
        thread.join()
