"""An HTTP proxy as some networks have it: it cuts websockets, and may hold responses back until they are complete."""

from __future__ import annotations

import asyncio
import contextlib

from devtools.harness.proxy import LoopbackServer
from devtools.local.ports import LOOPBACK

_CHUNK = 65536
_HOP = ("connection", "keep-alive")
_UPGRADE = ("upgrade", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions")


class HttpProxy(LoopbackServer):
    """Forwards requests to `port` on loopback, within the `with`. Its own port is `self.port`."""

    def __init__(self, port: int, *, cuts_websockets: bool = True, holds_back: bool = False) -> None:
        super().__init__()
        self._target = port
        #: Removes what asks for an upgrade from each request.
        self.cuts_websockets = cuts_websockets
        #: Sends a response once it has ended.
        self.holds_back = holds_back
        #: The request lines that were forwarded, without queries.
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one request: the connection is closed after it."""
        task = asyncio.current_task()
        self._connections.add(task)
        far: asyncio.StreamWriter | None = None
        directions: list[asyncio.Future[None]] = []
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            answers, far = await asyncio.open_connection(LOOPBACK, self._target)
            far.write(self._forwarded(head))
            directions = [
                asyncio.ensure_future(_copy(reader, far)),
                asyncio.ensure_future(_copy(answers, writer, whole=self.holds_back)),
            ]
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            if directions[1].done():
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            self._connections.discard(task)
            for direction in directions:
                direction.cancel()
            for side in (writer, far):
                if side is not None:
                    side.close()

    def _forwarded(self, head: bytes) -> bytes:
        """The head of a request as the server gets it."""
        line, *fields = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        self.requests.append(line.rpartition(" ")[0].partition("?")[0])
        names = [field.partition(":")[0].lower() for field in fields]
        if "upgrade" in names and not self.cuts_websockets:
            return head
        left = [f for f, name in zip(fields, names, strict=True) if name not in (*_HOP, *_UPGRADE)]
        return "\r\n".join((line, *left, "Connection: close", "", "")).encode("latin-1")


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter, *, whole: bool = False) -> None:
    """Copies one direction until its end; `whole`: only then."""
    held = b""
    with contextlib.suppress(OSError):
        while data := await source.read(_CHUNK):
            held += data
            if not whole:
                target.write(held)
                await target.drain()
                held = b""
        target.write(held)
        await target.drain()
