"""Whether the load generator or the model server is the bottleneck: both measured alone, under more load than in use.

The echo server here sends an ack, a delta and the whole reply for each message, as the chat does with a model at 0 ms.
That costs it almost nothing: the generator limits this pair. `python -m bench.calibration` serves it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any, Self

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from bench.line_process import LineProcess
from bench.load_generator import quantile
from bench.paced_model import Pace, PacedModel

_REPLY = '"id":"r{0}","reply_to":"{0}"'


class _Echo(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.send(WSMsgType.TEXT, b'{"type":"session"}')

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.CLOSE:
            transport.disconnect()
            return
        asked = json.loads(frame.get_payload_as_bytes())
        ids, text = _REPLY.format(asked["id"]), f"You said: {asked['msg']} ."
        transport.send(WSMsgType.TEXT, f'{{"type":"ack","id":"{asked["id"]}"}}'.encode())
        transport.send(WSMsgType.TEXT, f'{{"type":"delta",{ids},"offset":0,"msg":"{text}"}}'.encode())
        transport.send(WSMsgType.TEXT, f'{{"type":"message",{ids},"source":"bot","msg":"{text}"}}'.encode())


class EchoChat:
    """The echo server as a child process within the `with`."""

    def __enter__(self) -> Self:
        self._process = LineProcess("bench.calibration")
        self.url = f"http://127.0.0.1:{int(self._process.read())}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()


async def _serve() -> None:
    def listener(_: WSUpgradeRequest) -> WSListener:
        return _Echo()

    server = await ws_create_server(listener, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


class ModelClient(asyncio.Protocol):
    """One connection that asks the model server repeatedly and counts the events."""

    def __init__(self, until: float, times: list[float]) -> None:
        body = json.dumps({"inputs": "Human: hello\nBot:", "stream": True}).encode()
        self._request = b"POST /generate HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        self._until = until
        self._times = times
        self._tail = b""
        self.events = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports share no class with asyncio's.
        self._transport: Any = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self.events += data.count(b"data:")
        self._tail = (self._tail + data)[-7:]
        if self._tail == b"\r\n0\r\n\r\n":
            self._times.append(time.monotonic() - self._asked)
            if time.monotonic() < self._until:
                self._ask()
            else:
                self._transport.close()
                self.done.set_result(None)

    def _ask(self) -> None:
        self._asked = time.monotonic()
        self._tail = b""
        self._transport.write(self._request)


async def ask_model(model: PacedModel, pace: Pace, clients: int, seconds: float) -> tuple[int, list[float]]:
    """The events and the time of each reply of `clients` connections that ask for `seconds` seconds."""
    model.set(pace)
    loop = asyncio.get_running_loop()
    host, port = model.url.split("/")[2].split(":")
    times: list[float] = []
    until = time.monotonic() + seconds
    made = [await loop.create_connection(lambda: ModelClient(until, times), host, int(port)) for _ in range(clients)]
    await asyncio.gather(*(protocol.done for _, protocol in made))
    return sum(protocol.events for _, protocol in made), times


async def bare_call(model: PacedModel, count: int) -> float:
    """The median time of a reply without the chat, one request after the other: the model's share of a latency."""
    _, times = await ask_model(model, Pace(), 1, count / 1000)
    return quantile(times, 0.5)


if __name__ == "__main__":
    uvloop.run(_serve())
