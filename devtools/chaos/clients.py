"""Asynchronous clients of the chat: HTTP in threads, and a websocket whose frames wait in a queue."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from devtools.harness.chat_client import Closed

#: Seconds in which a frame must come while a reply is awaited; the connection counts as lost then.
PATIENCE = 30.0
#: Seconds for a handshake.
_HANDSHAKE_TIMEOUT = 10.0

#: What a client gets when a server or its connection breaks; it then connects again.
BROKEN = (Closed, WSError, OSError, TimeoutError)


class Socket(WSListener):
    """One websocket of a session."""

    def __init__(self) -> None:
        self._frames: asyncio.Queue[dict[str, Any] | Closed] = asyncio.Queue()
        self._transport: WSTransport | None = None
        self._code = 1006

    @classmethod
    async def connect(cls, url: str, token: str, after: str | None = None, address: str = "") -> Socket:
        """Connects from the local address `address`. Raises one of `BROKEN`."""
        target = f"ws{url.removeprefix('http')}/chat?token={token}" + (f"&after={after}" if after else "")
        options: dict[str, Any] = {"local_addr": (address, 0)} if address else {}
        _, listener = await ws_connect(
            cls,
            target,
            websocket_handshake_timeout=_HANDSHAKE_TIMEOUT,
            read_buffer_init_size=1024,
            use_aiofastnet=False,
            **options,
        )
        assert isinstance(listener, cls)
        return listener

    def send(self, **frame: Any) -> None:
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, json.dumps(frame).encode())

    async def receive(self, timeout: float = PATIENCE) -> dict[str, Any]:
        """The next frame. Raises `Closed` when the server or the network ends the connection, or `TimeoutError`."""
        frame = await asyncio.wait_for(self._frames.get(), timeout)
        if isinstance(frame, Closed):
            raise frame
        return frame

    def cut(self) -> None:
        """Breaks the connection without a closing handshake."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_disconnected(self, _: WSTransport) -> None:
        self._frames.put_nowait(Closed(self._code, "the connection ended"))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.TEXT:
            self._frames.put_nowait(json.loads(frame.get_payload_as_bytes()))
        elif frame.msg_type is WSMsgType.CLOSE:
            self._code = frame.get_close_code().value
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
