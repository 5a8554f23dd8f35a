"""A client of the chat: HTTP, a real websocket, and the rules of docs/protocol.md."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, Self

import requests
import websocket

#: Seconds for a frame that must come: generous, as the machine may be busy.
PATIENCE = 30.0


def new_session(url: str, name: str = "Ada") -> dict[str, Any]:
    """The answer of `POST /token`."""
    response = requests.post(f"{url}/token", json={"name": name}, timeout=PATIENCE)
    response.raise_for_status()
    session: dict[str, Any] = response.json()
    return session


def history(url: str, token: str) -> list[dict[str, Any]]:
    """All messages of a session, read page by page from `GET /refresh_token`."""
    messages: list[dict[str, Any]] = []
    params = {"token": token}
    while True:
        response = requests.get(f"{url}/refresh_token", params=params, timeout=PATIENCE)
        response.raise_for_status()
        page = response.json()
        messages[:0] = page["messages"]
        if not page["more"]:
            return messages
        params["before"] = page["before"]


def texts(messages: list[dict[str, Any]], source: str) -> list[str]:
    return [message["msg"] for message in messages if message["source"] == source]


class ChatClient:
    """One websocket. Stores every frame, and assembles the text of each reply by the offset rule."""

    #: Gets each frame of every client.
    on_frame: ClassVar[Callable[[dict[str, Any]], None] | None] = None

    def __init__(self, url: str, token: str | None = None, *, after: str | None = None, **options: Any) -> None:
        """Connects; without a `token` it begins a session. `options` go to the websocket: `origin`, `header`."""
        self.url = url
        self.token = token if token is not None else new_session(url)["token"]
        self.frames: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.text: dict[str, str] = {}
        address = f"ws{url.removeprefix('http')}/chat?token={self.token}"
        if after is not None:
            address += f"&after={after}"
        self.ws = websocket.create_connection(address, timeout=PATIENCE, **options)

    def send(self, msg: str, message_id: str | None = None) -> None:
        frame = {"type": "message", "msg": msg}
        if message_id is not None:
            frame["id"] = message_id
        self.ws.send(json.dumps(frame))

    def send_frame(self, **frame: Any) -> None:
        self.ws.send(json.dumps(frame))

    def send_text(self, text: str) -> None:
        self.ws.send(text)

    def receive(self) -> dict[str, Any]:
        """The next frame. Raises `Closed` when the server closes."""
        opcode, data = self.ws.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            raise Closed(int.from_bytes(data[:2], "big") if len(data) > 1 else 1005, data[2:].decode())
        frame: dict[str, Any] = json.loads(data)
        self.frames.append(frame)
        if ChatClient.on_frame is not None:
            ChatClient.on_frame(frame)
        self.times.append(time.time())
        if frame["type"] == "delta":
            before = self.text.get(frame["id"], "")
            self.text[frame["id"]] = before[: frame["offset"]] + frame["msg"]
        elif frame["type"] == "message":
            self.text[frame["id"]] = frame["msg"]
        return frame

    def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Receives frames up to the first of this type with these fields, and returns that one."""
        while True:
            frame = self.receive()
            if frame["type"] == kind and all(frame.get(name) == value for name, value in fields.items()):
                return frame

    def ask(self, msg: str, message_id: str | None = None) -> dict[str, Any]:
        """Sends a message and waits for its reply."""
        self.send(msg, message_id)
        acknowledged = self.until("ack")["id"]
        return self.until("message", reply_to=acknowledged)

    def closed(self) -> Closed:
        """Waits for the server to close, and returns how; frames before that are stored."""
        try:
            while True:
                self.receive()
        except Closed as closed:
            self.ws.shutdown()
            return closed

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["type"] == kind]

    def cut(self) -> None:
        """Breaks the connection without a closing handshake, as a lost network would."""
        self.ws.shutdown()

    def close(self) -> None:
        self.ws.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ws.shutdown()


class Closed(Exception):
    """The server closed the websocket."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason
