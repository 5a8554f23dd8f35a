"""The HTTP client for replies that are not streamed, built on `requests`: connection reuse, time limits, cancelling."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from http.client import HTTPResponse, parse_headers
from typing import Any, TypeVar, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from chatbot.worker.models.call import Call
from chatbot.worker.models.http.response import ModelResponse, Route
from chatbot.worker.models.server_errors.http_errors import causes

#: Bytes asked of the connection at a time; what has arrived is returned at once.
_READ_SIZE = 65536
#: Seconds to wait for the end of a body whose last event has been read: the end comes with that event, or never.
_DRAIN_TIMEOUT = 0.01

#: Headers of a response, most of which a chain of proxies adds; Python's limit is 100, and cannot be set otherwise.
_MAX_HEADERS = 1000
http.client._MAXHEADERS = _MAX_HEADERS  # type: ignore[attr-defined]

T = TypeVar("T")

_current = threading.local()


class _FinalResponse(HTTPResponse):
    """Passes over all heads before the final one, such as 103 Early Hints; Python's own passes over 100 only."""

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 101 < status < 200:
                return version, status, reason
            parse_headers(self.fp)


class _Tracked:
    """Gives its socket to the running `Call`, so that another thread can end the call."""

    response_class: Any = _FinalResponse

    def connect(self) -> None:
        _current.reused = False
        super().connect()  # type: ignore[misc]
        _report(self)

    def request(self, *args: Any, **kwargs: Any) -> None:
        _current.reused = self.sock is not None  # type: ignore[attr-defined]
        _report(self)
        super().request(*args, **kwargs)  # type: ignore[misc]


def _report(connection: Any) -> None:
    call: Call | None = getattr(_current, "call", None)
    if call is not None:
        # Kept, as the connection forgets its socket when the server will close it after the response.
        _current.socket = connection.sock
        call.on_cancel(partial(_shut_down, connection.sock))


class _TrackedHTTP(_Tracked, HTTPConnection):
    pass


class _TrackedHTTPS(_Tracked, HTTPSConnection):
    pass


class _PoolHTTP(HTTPConnectionPool):
    ConnectionCls = _TrackedHTTP


class _PoolHTTPS(HTTPSConnectionPool):
    ConnectionCls = _TrackedHTTPS


_POOLS = {"http": _PoolHTTP, "https": _PoolHTTPS}


class _TrackingHTTPAdapter(HTTPAdapter):
    """Makes tracked connections, and looks up the pool for each URL once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._pools: dict[str | None, Any] = {}
        super().__init__(*args, **kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def get_connection_with_tls_context(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        pool = self._pools.get(request.url)
        if pool is None:
            pool = self._pools[request.url] = super().get_connection_with_tls_context(request, *args, **kwargs)
        return pool


class BlockingClient:
    """Sends requests to one model server. Thread-safe; all threads share one pool of connections."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._adapter = _TrackingHTTPAdapter(pool_connections=4, pool_maxsize=route.connections, max_retries=0)
        # As `requests` takes it.
        paths = route.certificate
        self._certificate = paths if len(paths) == 2 else next(iter(paths), None)

    def open(self, request: requests.PreparedRequest, call: Call, silences: tuple[float, float]) -> BlockingResponse:
        """Sends the request; returns once the head has arrived. `silences` in seconds: before the first token, later.

        Raises what `requests` raises, and `CallCancelled`.
        """
        return _outside(
            call, lambda: BlockingResponse(self._send_with_retry(request, call, silences[0]), call, silences[1])
        )

    def send(self, request: requests.PreparedRequest, silence: float) -> requests.Response:
        """Uses the adapter without a session, so that no redirect is followed: another host must not get the token."""
        return self._adapter.send(
            request,
            stream=True,
            timeout=(self._route.connect_timeout, silence),
            verify=self._route.verify,
            cert=self._certificate,
            proxies=self._route.proxies,
        )

    def _send_with_retry(self, request: requests.PreparedRequest, call: Call, silence: float) -> requests.Response:
        """Sends again at once when the server had just closed a reused connection."""
        _current.call, _current.reused, _current.socket = call, False, None
        try:
            while True:
                try:
                    return self.send(request, silence)
                except requests.ConnectionError as error:
                    call.check()
                    if not _current.reused or not any(isinstance(cause, ConnectionError) for cause in causes(error)):
                        raise
        finally:
            _current.call = None


class BlockingResponse(ModelResponse):
    """A response that `requests` reads, in the thread of the call."""

    def __init__(self, response: requests.Response, call: Call, silence: float) -> None:
        super().__init__(call, silence)
        self.status, self.headers = response.status_code, response.headers
        self._raw = cast(urllib3.HTTPResponse, response.raw)
        self._socket: socket.socket | None = _current.socket
        self.framed = self.shows_end(chunked=bool(getattr(self._raw, "chunked", False)))

    def close(self) -> None:
        self._call.done()
        _outside(self._call, self._release)

    def _read(self) -> bytes:
        return _outside(self._call, lambda: self._raw.read1(_READ_SIZE, decode_content=True))

    def _allow_silence(self, seconds: float) -> None:
        if self._socket is not None and self._socket.fileno() >= 0:
            self._socket.settimeout(seconds)

    def _release(self) -> None:
        raw = self._raw
        sock = getattr(getattr(raw, "_connection", None), "sock", None)
        if sock is None:
            # Read to its end, or the last response of its connection.
            raw.close()
            return
        try:
            sock.settimeout(_DRAIN_TIMEOUT)
            deadline = time.monotonic() + _DRAIN_TIMEOUT
            while raw.read1(_READ_SIZE, decode_content=True):
                if time.monotonic() > deadline:
                    # The model continues after a stop sequence, which is not wanted.
                    raw.close()
                    break
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            # Cut, cancelled, or not at its end: the connection cannot be reused.
            raw.close()
        raw.release_conn()


def _outside(call: Call, work: Callable[[], T]) -> T:
    """The result of `work`, which blocks: not in the loop's thread."""
    return call.loop.outside(work) if call.loop is not None else work()


def _shut_down(sock: socket.socket | None) -> None:
    if sock is None:
        return
    try:
        # The plain socket's method, also for TLS: SSLSocket.shutdown would drop the TLS state under the reading thread.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        # Closed already.
        return
