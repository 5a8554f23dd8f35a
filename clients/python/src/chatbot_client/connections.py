"""Ways to a session: a websocket, server-sent events, polling. Each receives frames and sends frames.

A proxy may let only some of them through. Each raises `Unusable` when it is the way that does not work, and
`Disconnected` when the server cannot be reached at all, or the connection broke.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Protocol

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from chatbot_client.errors import ChatError, Refused, SessionExpired
from chatbot_client.types import Frame, Way

#: Seconds to connect, and for the first frame, which the server sends at once.
OPEN_TIMEOUT = 10.0
#: Seconds for the closing handshake.
_CLOSE_TIMEOUT = 1.0
#: Seconds of silence on an event stream after which it counts as broken: the server sends a comment every 25.
_SILENCE = 60.0
#: Seconds that the server holds a poll when there is nothing to say.
_POLL = 25.0
#: Errors that no other way would avoid.
_FOR_GOOD = ("forbidden", "host_not_allowed")
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

    def frames(self, after: str | None) -> AsyncGenerator[Frame, None]:
        """Connects and receives, from the message `after` on.

        Raises `Disconnected`, `SessionExpired` and `Refused`; does not end otherwise.
        """

    async def send(self, frame: Frame) -> list[Frame]:
        """Sends a frame; returns the frames of the answer, if it comes here.

        Raises `Disconnected` when the frame may not have arrived, and `SessionExpired`.
        """


class WebSocket:
    """`/chat`."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._socket: ClientConnection | None = None

    async def frames(self, after: str | None) -> AsyncGenerator[Frame, None]:
        address = httpx2.URL(self._http.address("/chat"), params={"after": after} if after else None)
        address = address.copy_with(scheme="wss" if address.scheme == "https" else "ws")
        try:
            async with connect(
                str(address),
                additional_headers=self._http.headers,
                open_timeout=OPEN_TIMEOUT,
                close_timeout=_CLOSE_TIMEOUT,
                max_size=None,
                compression=None,
            ) as socket:
                async with asyncio.timeout(OPEN_TIMEOUT):
                    first = await socket.recv()
                self._socket = socket
                try:
                    yield json.loads(first)
                    async for data in socket:
                        yield json.loads(data)
                except (asyncio.CancelledError, GeneratorExit):
                    # The user leaves: `connect` would close with 1011, an internal error.
                    await socket.close()
                    raise
        except InvalidStatus as error:
            response = error.response
            raise refusal(response.status_code, response.headers, response.body or b"") from None
        except (InvalidHandshake, InvalidURI) as error:
            raise Unusable(str(error)) from None
        except TimeoutError:
            raise Unusable("no answer to the websocket's handshake") from None
        except ConnectionClosed as closed:
            code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")
            raise _closed(code, reason) from None
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
        refused = refusal(response.status_code, response.headers, response.content)
        error = found.get("error")
        if isinstance(refused, SessionExpired) or not isinstance(error, dict) or "code" not in error:
            raise refused
        after = _retry_after(response.headers)
        return [{"id": frame.get("id"), "retry_after": after, **error, "type": "error"}]


class EventStream(_Posting):
    """`/events`."""

    async def frames(self, after: str | None) -> AsyncGenerator[Frame, None]:
        try:
            async with AsyncExitStack() as stack:
                opening = self._http.stream("/events", {"after": after} if after else None)
                # A proxy may hold all of the answer back.
                async with asyncio.timeout(OPEN_TIMEOUT):
                    response = await stack.enter_async_context(opening)
                if response.status_code != 200:
                    raise refusal(response.status_code, response.headers, await response.aread())
                if "text/event-stream" not in response.headers.get("Content-Type", ""):
                    raise Unusable("the answer is not an event stream")
                events = _events(response.aiter_lines())
                async with asyncio.timeout(OPEN_TIMEOUT):
                    first = await anext(events)
                yield first
                async for frame in events:
                    yield frame
        except (TimeoutError, StopAsyncIteration):
            raise Unusable("no event came") from None
        except httpx2.TransportError as error:
            raise Disconnected(f"{type(error).__name__}: {error}") from None
        raise Disconnected("the event stream ended")


class Polling(_Posting):
    """`GET /messages`."""

    async def frames(self, after: str | None) -> AsyncGenerator[Frame, None]:
        wait = 0.0
        while True:
            params = {"wait": f"{wait:g}", **({"after": after} if after else {})}
            response = await self._http.request("GET", "/messages", params=params, timeout=_POLL + OPEN_TIMEOUT)
            if response.status_code != 200:
                raise refusal(response.status_code, response.headers, response.content)
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

    def stream(self, path: str, params: dict[str, str] | None) -> AbstractAsyncContextManager[httpx2.Response]:
        """An answer that is read while it comes."""
        timeout = httpx2.Timeout(OPEN_TIMEOUT, read=_SILENCE)
        return self.client.stream("GET", self.address(path), params=params, headers=self.headers, timeout=timeout)

    async def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Raises `Disconnected`."""
        try:
            return await self.client.request(method, self.address(path), headers=self.headers, **options)
        except httpx2.TransportError as error:
            raise Disconnected(f"{type(error).__name__}: {error}") from None

    async def ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The JSON of an answer. Raises `Refused`, `SessionExpired`, and `ConnectionError` without one."""
        try:
            response = await self.request(method, path, **options)
        except Disconnected as error:
            raise ConnectionError(str(error)) from None
        if response.is_success:
            return _json(response)
        raise error_of(response.headers, response.content) or ConnectionError(f"HTTP {response.status_code}")


def error_of(headers: Mapping[str, str], body: bytes) -> ChatError | None:
    """The server's own error in an answer; None for that of a proxy."""
    try:
        found = json.loads(body)
    except ValueError:
        return None
    error = found.get("error") if isinstance(found, dict) else None
    if not isinstance(error, dict) or "code" not in error:
        return None
    if error["code"] == "session_not_found":
        return SessionExpired(error["message"])
    return Refused(error["code"], error["message"], _retry_after(headers))


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> Exception:
    """What an answer means for a connection that should have been made."""
    error, wait = error_of(headers, body), _retry_after(headers) or 0.0
    if isinstance(error, SessionExpired) or (isinstance(error, Refused) and error.code in _FOR_GOOD):
        return error
    if error is not None and (status == 429 or status >= 500):
        return Disconnected(str(error), wait or 1.0)
    if status in (502, 503, 504):
        return Disconnected(f"HTTP {status}", wait)
    return Unusable(str(error or f"HTTP {status}"), wait)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = {name.lower(): value for name, value in headers.items()}.get("retry-after", "")
    return float(value) if value.isdecimal() else None


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


def _json(response: httpx2.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


WAYS: dict[Way, type[WebSocket] | type[EventStream] | type[Polling]] = {
    "websocket": WebSocket,
    "events": EventStream,
    "polling": Polling,
}
