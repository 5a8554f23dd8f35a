"""A TCP proxy before a server whose network breaks on demand: it delays, holds back or swallows what it forwards."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from devtools.harness.ports import free_port
from devtools.local.ports import LOOPBACK

_CHUNK = 65536
#: How Redis confirms a subscription. What clients send says less: scripts have the word in comments, and the check of a
#: user's rights queues the command and discards it.
_SUBSCRIBED = b"*3\r\n$9\r\nsubscribe\r\n"
#: Seconds for the proxy's thread to end.
_JOIN_TIMEOUT = 10.0


class Link:
    """One connection through the proxy."""

    def __init__(self) -> None:
        #: Whether the client has subscribed to a channel.
        self.subscribed = False
        #: Half-open: what either side sends disappears, and no side is closed.
        self.swallowed = False


class LoopbackServer:
    """An asyncio server in a thread of its own, within the `with`. Its port is `self.port`."""

    def __init__(self) -> None:
        self.port = 0
        # The event loop holds its tasks weakly: one that waits for a swallowed connection would be collected.
        self._connections: set[asyncio.Task[None] | None] = set()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_JOIN_TIMEOUT)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, LOOPBACK, free_port(), backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stopping.wait()
        server.close()
        # The tasks of a connection cancel those that they began.
        while tasks := [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        raise NotImplementedError


class Proxy(LoopbackServer):
    """Forwards connections to `port` on loopback, within the `with`. Its own port is `self.port`."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._target = port
        #: Seconds by which each chunk from the server is late; what follows is late by the same, not by more.
        self.delay = 0.0
        self.links: set[Link] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    def half_open(self, which: Callable[[Link], bool] = lambda _: True) -> int:
        """Swallows all that the present connections carry from now on; new ones work. Returns how many there are."""
        chosen = [link for link in list(self.links) if which(link)]
        for link in chosen:
            link.swallowed = True
        return len(chosen)

    def partition(self) -> None:
        """Forwards nothing until `heal()`, as a cut cable: what is sent meanwhile arrives then."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def heal(self) -> None:
        self._loop.call_soon_threadsafe(self._flowing.set)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link()
        self.links.add(link)
        task = asyncio.current_task()
        self._connections.add(task)
        far: asyncio.StreamWriter | None = None
        directions: list[asyncio.Future[None]] = []
        try:
            await self._flowing.wait()
            answers, far = await asyncio.open_connection(LOOPBACK, self._target)
            directions = [
                asyncio.ensure_future(self._forward(link, reader, far, from_client=True)),
                asyncio.ensure_future(self._forward(link, answers, writer, from_client=False)),
            ]
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            return
        finally:
            self.links.discard(link)
            self._connections.discard(task)
            for direction in directions:
                direction.cancel()
            for side in (writer, far):
                if side is not None:
                    side.transport.abort()

    async def _forward(
        self, link: Link, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, from_client: bool
    ) -> None:
        """Copies one direction until its end, in order; each chunk is late by the delay of its arrival."""
        arrived: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def write() -> None:
            while True:
                due, data = await arrived.get()
                if (wait := due - self._loop.time()) > 0:
                    await asyncio.sleep(wait)
                await self._flowing.wait()
                if link.swallowed:
                    continue
                if not data:
                    return
                target.write(data)
                await target.drain()

        async def read() -> None:
            while True:
                data = b""
                with contextlib.suppress(OSError):
                    data = await source.read(_CHUNK)
                if not from_client and _SUBSCRIBED in data:
                    link.subscribed = True
                arrived.put_nowait((self._loop.time() + (0.0 if from_client else self.delay), data))
                if not data:
                    return

        reading = asyncio.ensure_future(read())
        try:
            await write()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
