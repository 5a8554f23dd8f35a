"""Ways to a session: a websocket, server-sent events, polling. Each receives frames and sends frames.

A proxy may let only some of them through. Each raises `Unusable` when it is the way that does not work, and
`Disconnected` when the server cannot be reached at all, or the connection broke.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Protocol

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from chatbot_client.errors import ChatError, Refused, SessionExpired
from chatbot_client.types import Frame

#: Seconds to connect, and for the first frame, which the server sends at once.
OPEN_TIMEOUT = 10.0
#: Seconds of silence on an event stream after which it counts as broken: the server sends a comment every 25.
_SILENCE = 60.0
#: Seconds that the server holds a poll when there is nothing to say.
_POLL = 25.0
#: The close code of a session that is over; with this word in its reason, as pings that went unanswered give it too.
_POLICY, _ABOUT_SESSION = 1008, "ession"


class Disconnected(Exception):
    """Connect again, not before `retry_after` seconds."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Unusable(Disconnected):
    """This way does not work here; another one may."""


class Connection(Protocol):
    """One connection to a session."""

    def frames(self, after: str | None) -> AsyncIterator[Frame]:
        """Connects and receives, from the message `after` on.

        Raises `Disconnected`, `SessionExpired` and `Refused`; does not end otherwise.
        """

    async def send(self, frame: Frame) -> list[Frame]:
        """Sends a frame; returns the frames of the answer, if it comes here. Raises `Disconnected`."""


class WebSocket:
    """`/chat`."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._socket: ClientConnection | None = None

    async def frames(self, after: str | None) -> AsyncIterator[Frame]:
        address = httpx2.URL(self._http.address("/chat"), params={"after": after} if after else None)
        address = address.copy_with(scheme="wss" if address.scheme == "https" else "ws")
        try:
            async with connect(
                str(address),
                additional_headers=self._http.headers,
                open_timeout=OPEN_TIMEOUT,
                max_size=None,
                compression=None,
            ) as socket:
                first = await asyncio.wait_for(socket.recv(), OPEN_TIMEOUT)
                self._socket = socket
                yield json.loads(first)
                async for data in socket:
                    yield json.loads(data)
        except InvalidStatus as error:
            response = error.response
            raise refusal(response.status_code, dict(response.headers), response.body or b"") from None
        except (InvalidHandshake, InvalidURI) as error:
            raise Unusable(str(error)) from None
        except TimeoutError:
            raise Unusable("no answer to the websocket's handshake") from None
        except ConnectionClosed as closed:
            raise _closed(closed.rcvd.code if closed.rcvd else 1006, closed.rcvd.reason if closed.rcvd else "") from None
        except OSError as error:
            raise Disconnected(str(error)) from None
        finally:
            self._socket = None
        raise _closed(1000, "")

    async def send(self, frame: Frame) -> list[Frame]:
        if self._socket is None:
            raise Disconnected("not connected")
        try:
            await self._socket.send(json.dumps(frame))
        except ConnectionClosed as error:
            raise Disconnected(str(error)) from None
        return []


class _Posting:
    """Sends frames by `POST /messages`."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def send(self, frame: Frame) -> list[Frame]:
        response = await self._http.request("POST", "/messages", content=json.dumps(frame).encode())
        if response.status_code == 204:
            return []
        found = _json(response)
        if response.is_success and found:
            answers = [found.pop(name) for name in ("reply", "failure") if name in found]
            return [found, *answers]
        error = found.get("error")
        if isinstance(error, dict) and error.get("type") == "error":
            return [error]
        raise refusal(response.status_code, dict(response.headers), response.content)


class EventStream(_Posting):
    """`/events`."""

    async def frames(self, after: str | None) -> AsyncIterator[Frame]:
        timeout = httpx2.Timeout(OPEN_TIMEOUT, read=_SILENCE)
        try:
            async with self._http.client.stream(
                "GET",
                self._http.address("/events"),
                params={"after": after} if after else None,
                headers=self._http.headers,
                timeout=timeout,
            ) as response:
                if response.status_code != 200:
                    raise refusal(response.status_code, dict(response.headers), await response.aread())
                if "text/event-stream" not in response.headers.get("Content-Type", ""):
                    raise Unusable("the answer is no event stream")
                async for frame in _first_in_time(_events(response.aiter_lines())):
                    yield frame
        except httpx2.TransportError as error:
            raise Disconnected(f"{type(error).__name__}: {error}") from None
        raise Disconnected("the event stream ended")


class Polling(_Posting):
    """`GET /messages`."""

    async def frames(self, after: str | None) -> AsyncIterator[Frame]:
        wait = 0.0
        while True:
            params = {"wait": f"{wait:g}", **({"after": after} if after else {})}
            response = await self._http.request("GET", "/messages", params=params, timeout=_POLL + OPEN_TIMEOUT)
            if response.status_code != 200:
                raise refusal(response.status_code, dict(response.headers), response.content)
            answer = _json(response)
            if not isinstance(answer.get("frames"), list):
                raise Unusable("the answer is not that of the server")
            for frame in answer["frames"]:
                yield frame
            after, wait = answer["after"], _POLL


class Http:
    """The server's routes, for one session."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url.rstrip("/")
        self.client = httpx2.AsyncClient(timeout=OPEN_TIMEOUT, follow_redirects=False)
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def address(self, path: str) -> str:
        return f"{self._url}{path}"

    async def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Raises `Disconnected`."""
        try:
            return await self.client.request(method, self.address(path), headers=self.headers, **options)
        except httpx2.TransportError as error:
            raise Disconnected(f"{type(error).__name__}: {error}") from None

    async def ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The JSON of a successful answer. Raises `Refused`, `SessionExpired`, and `ConnectionError` without an answer."""
        try:
            response = await self.request(method, path, **options)
            if response.is_success:
                return _json(response)
            raise refusal(response.status_code, dict(response.headers), response.content)
        except Disconnected as error:
            raise ConnectionError(str(error)) from None


def refusal(status: int, headers: dict[str, str], body: bytes) -> Exception:
    """The exception that an answer other than 200 stands for."""
    retry_after = _seconds({name.lower(): value for name, value in headers.items()}.get("retry-after"))
    error: Any = None
    with suppress(ValueError, AttributeError):
        error = json.loads(body).get("error")
    if not isinstance(error, dict) or "code" not in error:
        # Of a proxy: this way may be closed, or the server behind it is away.
        kind = Disconnected if status in (502, 503, 504) else Unusable
        return kind(f"HTTP {status}", retry_after or 0.0)
    if error["code"] == "session_not_found":
        return SessionExpired(error["message"])
    if status == 429 or status >= 500:
        # Without a stream the server has no place for it now.
        return Disconnected(error["message"], retry_after or 1.0)
    if status in (404, 405):
        return Unusable(error["message"])
    return Refused(error["code"], error["message"], retry_after)


def _closed(code: int, reason: str) -> Exception:
    if code == _POLICY and _ABOUT_SESSION in reason:
        return SessionExpired(reason)
    return Disconnected(f"closed with {code} {reason}", 1.0 if code == 1013 else 0.0)


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[Frame]:
    """The frames of an event stream. https://html.spec.whatwg.org/multipage/server-sent-events.html"""
    name, data = "", ""
    async for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data = f"{data}\n{value}" if data else value
        elif not line and data:
            found = json.loads(data)
            if name == "close":
                raise _closed(found["code"], found["reason"])
            name, data = "", ""
            yield found


async def _first_in_time(frames: AsyncIterator[Frame]) -> AsyncIterator[Frame]:
    """The frames. Raises `Unusable` when the first does not come: a proxy collects what it should pass on."""
    try:
        yield await asyncio.wait_for(anext(frames), OPEN_TIMEOUT)
    except (TimeoutError, StopAsyncIteration):
        raise Unusable("no event came") from None
    async for frame in frames:
        yield frame


def _json(response: httpx2.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


WAYS: dict[str, type[WebSocket] | type[EventStream] | type[Polling]] = {
    "websocket": WebSocket,
    "events": EventStream,
    "polling": Polling,
}

__all__ = ["WAYS", "ChatError", "Connection", "Disconnected", "Http", "Unusable"]
