"""Clients of `/events` and `/messages`, as docs/protocol.md describes them."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

import requests

from devtools.harness.chat_client import PATIENCE, ChatClient


def post(url: str, token: str | None, frame: dict[str, Any] | bytes | str, **headers: str) -> requests.Response:
    """Sends one frame, or text as typed."""
    body = json.dumps(frame) if isinstance(frame, dict) else frame
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return requests.post(f"{url}/messages", data=body, headers=headers, timeout=PATIENCE)


def poll(url: str, token: str, after: str | None = None, wait: float = 0) -> requests.Response:
    params = {"token": token, "wait": str(wait)} | ({"after": after} if after is not None else {})
    return requests.get(f"{url}/messages", params=params, timeout=PATIENCE)


class EventClient:
    """One event stream, read in a thread."""

    #: Called for each stream that was opened.
    on_open: ClassVar[Callable[[], object]] = lambda: None

    def __init__(self, url: str, token: str, *, after: str | None = None, **headers: str) -> None:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
        path = f"/events?token={token}" + (f"&after={after}" if after is not None else "")
        connection.request("GET", path, headers=headers)
        self._socket = connection.sock
        self.response = connection.getresponse()
        assert self.response.status == 200
        EventClient.on_open()
        self.frames: list[dict[str, Any]] = []
        self.comments = 0
        #: The id of the last event, as a browser stores it.
        self.last_id: str | None = None
        #: The data of the event `close`.
        self.closed: dict[str, Any] | None = None
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The first frame of this type with these fields."""

        def found() -> dict[str, Any] | None:
            for frame in self.frames:
                if frame["type"] == kind and all(frame.get(name) == value for name, value in fields.items()):
                    return frame
            return None

        with self._changed:
            assert self._changed.wait_for(lambda: found() or self._ended, PATIENCE), f"no {kind} {fields}"
        frame = found()
        assert frame is not None, f"the stream ended without {kind} {fields}"
        return frame

    def wait_for_comment(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.comments, PATIENCE)

    def end(self) -> dict[str, Any] | None:
        """Waits for the end of the stream; the data of its event `close`."""
        self._thread.join(PATIENCE)
        assert self._ended
        return self.closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnects."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self.response.close()
        self._socket.close()

    def _read(self) -> None:
        name = ""
        with contextlib.suppress(OSError, http.client.HTTPException):
            while line := self.response.readline().decode():
                field, _, value = line.rstrip("\n").partition(": ")
                with self._changed:
                    if line.startswith(":"):
                        self.comments += 1
                    elif field == "id":
                        self.last_id = value
                    elif field == "event":
                        name = value
                    elif field == "data" and name == "close":
                        self.closed = json.loads(value)
                    elif field == "data":
                        frame = json.loads(value)
                        self.frames.append(frame)
                        if ChatClient.on_frame is not None:
                            ChatClient.on_frame(frame)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
