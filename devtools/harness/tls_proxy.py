"""A TLS port before a Redis that has none: redis-server of the wheels is built without TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from pathlib import Path

from devtools.harness.ports import free_port
from devtools.local.ports import LOOPBACK

_CHUNK = 65536
#: The first byte of a TLS handshake.
_HANDSHAKE = b"\x16"


class TlsProxy:
    """Forwards connections to `target` on loopback. One that does not begin with TLS is forwarded as it is.

    So the port may be the one that a node of a Redis Cluster announces: its replicas connect to it without TLS.
    """

    def __init__(self, target: int, certificates: Path) -> None:
        """`certificates` is a folder of `make_certificates`. The port is `self.port` from now on."""
        self._target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        self._listening = socket.create_server((LOOPBACK, free_port()), backlog=512)
        self._listening.setblocking(False)
        self.port = int(self._listening.getsockname()[1])
        #: Connections with TLS so far.
        self.encrypted = 0
        self._loop = asyncio.new_event_loop()
        # The event loop holds its tasks weakly.
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Forwards from a thread, until the process ends."""
        threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True).start()

    async def _serve(self) -> None:
        while True:
            accepted, _ = await self._loop.sock_accept(self._listening)
            task = self._loop.create_task(self._forward(accepted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, accepted: socket.socket) -> None:
        sides: list[asyncio.StreamWriter] = []
        try:
            first = await self._first_byte(accepted)
            reader = asyncio.StreamReader(loop=self._loop)
            protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
            context = self._context if first == _HANDSHAKE else None
            transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, accepted, ssl=context)
            self.encrypted += context is not None
            near = asyncio.StreamWriter(transport, protocol, reader, self._loop)
            sides.append(near)
            answers, far = await asyncio.open_connection(LOOPBACK, self._target)
            sides.append(far)
            copies = [asyncio.ensure_future(_copy(reader, far)), asyncio.ensure_future(_copy(answers, near))]
            await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
            for copy in copies:
                copy.cancel()
        except OSError:
            # The client has closed, refused the certificate, or Redis does not run: both sides are closed.
            accepted.close()
        finally:
            for side in sides:
                side.transport.abort()

    async def _first_byte(self, accepted: socket.socket) -> bytes:
        """The first byte, which stays in the socket; b'' when the client has closed it."""
        accepted.setblocking(False)
        while True:
            try:
                return accepted.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                readable = asyncio.Event()
                self._loop.add_reader(accepted, readable.set)
                try:
                    await readable.wait()
                finally:
                    self._loop.remove_reader(accepted)


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Until one side closes."""
    try:
        while data := await source.read(_CHUNK):
            target.write(data)
            await target.drain()
    except OSError:
        return
