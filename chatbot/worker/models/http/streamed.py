"""The HTTP client for replies that stream, built on libcurl: one thread reads all of a process, see `ModelLoop`."""

from __future__ import annotations

import os
import select
from typing import Any

import certifi
import greenlet
import pycurl
import requests
from requests.structures import CaseInsensitiveDict
from requests.utils import select_proxy

from chatbot.worker.models.call import Call
from chatbot.worker.models.event_loop import ModelLoop
from chatbot.worker.models.http.response import ModelResponse, Route
from chatbot.worker.models.server_errors.transfer_errors import ServerSilent, TransferFailed

#: Seconds to wait for the end of a body whose last event has been read: the end comes with that event, or never.
_DRAIN_TIMEOUT = 0.01
#: Connections of which the socket is remembered; of more all are forgotten.
_MOST_SOCKETS = 1000


class StreamClient:
    """Posts to one model server. For the loop's own thread."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._idle: list[Any] = []
        #: The proxy for each URL; '' for none.
        self._proxies: dict[str, str] = {}

    def open(
        self, request: requests.PreparedRequest, call: Call, loop: ModelLoop, silences: tuple[float, float]
    ) -> StreamedResponse:
        """Sends the request; returns once the body begins. `silences` in seconds: before the first token, and later.

        Raises `TransferFailed`, `ServerSilent` and `CallCancelled`.
        """
        while True:
            try:
                response = StreamedResponse(self._handle(request), call, loop, silences, self._idle)
            except pycurl.error as error:
                raise TransferFailed(error.args[0], str(error.args[-1])) from error
            try:
                response.wait_for_body()
            except BaseException:
                response.close()
                if response.unread:
                    # That connection is closed now.
                    continue
                raise
            return response

    def _handle(self, request: requests.PreparedRequest) -> Any:
        url = str(request.url)
        easy = self._idle.pop() if self._idle else _new_handle(self._route)
        easy.setopt(pycurl.URL, url)
        # Without "Expect:" a long prompt would wait up to a second for servers that ignore it.
        headers = ["Expect:", *(f"{name}: {_text(value)}" for name, value in request.headers.items())]
        easy.setopt(pycurl.HTTPHEADER, [header.encode("latin-1") for header in headers])
        easy.setopt(pycurl.POSTFIELDS, request.body)
        if url not in self._proxies:
            self._proxies[url] = select_proxy(url, dict(self._route.proxies)) or ""
        easy.setopt(pycurl.PROXY, self._proxies[url])
        return easy


def _new_handle(route: Route) -> Any:
    easy = pycurl.Curl()
    easy.setopt(pycurl.NOSIGNAL, 1)
    easy.setopt(pycurl.POST, 1)
    # Another host must not get the token.
    easy.setopt(pycurl.FOLLOWLOCATION, 0)
    easy.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    easy.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    # What a proxy compresses all the same is decoded.
    easy.setopt(pycurl.ACCEPT_ENCODING, "")
    easy.setopt(pycurl.CONNECTTIMEOUT_MS, max(int(route.connect_timeout * 1000), 1))
    if route.verify is False:
        easy.setopt(pycurl.SSL_VERIFYPEER, 0)
        easy.setopt(pycurl.SSL_VERIFYHOST, 0)
    else:
        authorities = certifi.where() if route.verify is True else route.verify
        for file, folder in ((pycurl.CAINFO, pycurl.CAPATH), (pycurl.PROXY_CAINFO, pycurl.PROXY_CAPATH)):
            easy.setopt(folder if os.path.isdir(authorities) else file, authorities)
    if route.certificate:
        easy.setopt(pycurl.SSLCERT, route.certificate[0])
        easy.setopt(pycurl.SSLKEY, route.certificate[-1])
    return easy


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


class StreamedResponse(ModelResponse):
    """A response that libcurl reads. For the loop's own thread, in the greenlet of its call."""

    def __init__(self, easy: Any, call: Call, loop: ModelLoop, silences: tuple[float, float], idle: list[Any]) -> None:
        """Sends the request. `idle` gets the handle back. Raises `pycurl.error`."""
        super().__init__(call, silences[1])
        self.easy = easy
        self.headers = self._headers = CaseInsensitiveDict[str]()
        self._loop = loop
        self._idle = idle
        #: Whether the request was not sent, as its connection held something unread.
        self.unread = False
        self._began = self._heard = loop.now
        self._limit = silences[0]
        self._chunks: list[bytes] = []
        self._error: OSError | None = None
        self._ended = self._body_began = False
        self._drain_until: float | None = None
        self._waiting: greenlet.greenlet | None = None
        easy.setopt(pycurl.HEADERFUNCTION, self._add_header)
        easy.setopt(pycurl.WRITEFUNCTION, self._add_chunk)
        easy.setopt(pycurl.PREREQFUNCTION, self._check_connection)
        call.on_cancel(self._cancel)
        call.wait_for_more = self._wait_for_more
        loop.add(self)

    def wait_for_body(self) -> None:
        """Returns once the body begins or ends."""
        self._wait()
        self.status = int(self.easy.getinfo(pycurl.RESPONSE_CODE))
        self.framed = self.shows_end(chunked="chunked" in self.headers.get("Transfer-Encoding", "").lower())
        if self._error is not None and not self._chunks and not self._body_began:
            raise self._error

    def begun(self) -> None:
        if not self._call.begun and not self._ended:
            self._loop.begun(self)
        super().begun()

    def close(self) -> None:
        self._call.done()
        if self._ended:
            self._release()
        elif self._call.cancelled or not self._body_began:
            self._loop.remove(self)
            self._release()
        else:
            self._loop.read_at_once(self)
            self._drain_until = self._loop.now + _DRAIN_TIMEOUT
            self._loop.check_within(_DRAIN_TIMEOUT)

    def _read(self) -> bytes:
        self._wait()
        if self._chunks:
            data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            self._chunks.clear()
            return data
        if self._error is not None:
            raise self._error
        return b""

    def _allow_silence(self, seconds: float) -> None:
        self._limit = seconds

    def _wait(self) -> None:
        while not (self._chunks or self._ended or self._call.cancelled):
            self._waiting = greenlet.getcurrent()
            self._loop.pause()
        self._call.check()

    def _wait_for_more(self) -> None:
        if self.all_read and not (self._chunks or self._ended or self._call.cancelled):
            self._waiting = greenlet.getcurrent()
            self._loop.pause()

    def _cancel(self) -> None:
        """Called in any thread."""
        self._loop.post(self.resume)

    # Called by libcurl, where no greenlet may be switched to, and by the loop

    def _check_connection(self, _remote: str, local: str, _remote_port: int, local_port: int) -> int:
        """Refuses a connection on which a server has sent more than its response: it would be taken for the next one.

        libcurl looks for that only on connections that were idle for more than a second.
        """
        known = self._loop.sockets.pop((local, local_port), -1)
        self.unread = known >= 0 and _readable(known)
        return int(pycurl.PREREQFUNC_ABORT if self.unread else pycurl.PREREQFUNC_OK)

    def _add_header(self, line: bytes) -> None:
        self._heard = self._loop.now
        name, colon, value = line.decode("latin-1").partition(":")
        if name.startswith("HTTP/"):
            # Of several heads, such as those of a proxy, the last one counts.
            self._headers.clear()
        elif colon and not self._body_began:
            self._headers[name.strip()] = value.strip()

    def _add_chunk(self, data: bytes) -> None:
        self._heard = self._loop.now
        self._body_began = True
        if self._drain_until is None:
            self._chunks.append(data)
            self._loop.ready(self)

    def ending(self) -> None:
        info = self.easy.getinfo
        if (sock := info(pycurl.ACTIVESOCKET)) >= 0:
            if len(self._loop.sockets) >= _MOST_SOCKETS:
                self._loop.sockets.clear()
            self._loop.sockets[info(pycurl.LOCAL_IP), info(pycurl.LOCAL_PORT)] = sock

    def finished(self, code: int) -> None:
        self._ended = True
        if code:
            info = self.easy.getinfo
            text, system_error = self.easy.errstr_raw().decode("utf-8", "replace"), info(pycurl.OS_ERRNO)
            handshaking = bool(info(pycurl.CONNECT_TIME)) and not info(pycurl.APPCONNECT_TIME)
            self._error = TransferFailed(code, text, system_error, handshaking=handshaking)
        if self._drain_until is None:
            self._loop.ready(self)
        else:
            self._release()

    def resume(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.switch()

    def check_times(self, now: float) -> None:
        if self._drain_until is not None:
            if now >= self._drain_until:
                # The model continues after a stop sequence, which is not wanted.
                self._loop.remove(self)
                self._release()
        elif now - self._heard > self._limit and not self._ended:
            sent_after = self.easy.getinfo(pycurl.PRETRANSFER_TIME)
            # Until the request is sent the time to connect is bounded, by libcurl.
            if sent_after and now - max(self._heard, self._began + sent_after) > self._limit:
                self._loop.remove(self)
                self._ended, self._error = True, ServerSilent()
                self._loop.ready(self)

    def _release(self) -> None:
        easy, self.easy = self.easy, None
        if easy is not None:
            for callback in (pycurl.HEADERFUNCTION, pycurl.WRITEFUNCTION):
                easy.setopt(callback, _ignore)
            easy.setopt(pycurl.PREREQFUNCTION, _accept)
            self._idle.append(easy)


def _readable(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(0))


def _accept(*_: Any) -> int:
    return int(pycurl.PREREQFUNC_OK)


def _ignore(_: bytes) -> None:
    """Stands in for the callbacks of a response, which a kept handle would keep."""
