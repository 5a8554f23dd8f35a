"""The HTTP client for a model server, built on `requests`: connection reuse, time limits, cancelling."""

from __future__ import annotations

import json
import os
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from chatbot.config import Settings
from chatbot.errors import ConfigurationError
from chatbot.worker.models.base import Call
from chatbot.worker.models.errors import ModelError, ModelUnavailable
from chatbot.worker.models.http_errors import causes, connection_error, raise_for_status

#: Statuses that come with an answer.
_ANSWERED = (200, 201, 203, 206)
#: Bytes asked of the connection at a time; what has arrived is returned at once.
_READ_SIZE = 65536
#: Seconds to wait for the end of a body whose last event has been read: the end comes with that event, or never.
_DRAIN_TIMEOUT = 0.01

_current = threading.local()


class _Tracked:
    """Gives its socket to the running `Call`, so that another thread can end the call."""

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
        call.using(connection)


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


class ModelResponse:
    """A response of the model server; its body is read as it arrives."""

    def __init__(self, response: requests.Response, call: Call, silence: float) -> None:
        """`silence` bounds the seconds between two chunks, once the reply has begun."""
        self._raw = cast(urllib3.HTTPResponse, response.raw)
        self._call = call
        self._silence = silence
        self._bound: float | None = None
        self.content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        #: Whether the end of the body shows, so that a connection that closes before it is one that was cut.
        self.framed = bool(getattr(self._raw, "chunked", False)) or "Content-Length" in response.headers

    def chunks(self) -> Iterator[bytes]:
        """The body, in chunks of whatever size arrives."""
        while True:
            chunk = self._raw.read1(_READ_SIZE, decode_content=True)
            self._call.check()
            if not chunk:
                return
            yield chunk

    def begun(self) -> None:
        """Notes that the first token has arrived: from now on the server may be silent for a shorter time."""
        self._call.begin()

    def quiet(self, seconds: float | None) -> None:
        """Bounds the silence before the next chunk: by `seconds`, or else by what is usual within a reply."""
        bound = seconds or self._silence
        if bound != self._bound and self._call.begun:
            self._bound = bound
            self._call.allow_silence(min(bound, self._silence))

    def check(self) -> None:
        """Raises `CallCancelled` if the call has been ended."""
        self._call.check()


class ModelEndpoint:
    """A model server's address, to post to. Thread-safe; all threads share one pool of connections."""

    def __init__(self, url: str, settings: Settings) -> None:
        self.url = url
        self.public_address = public_address(url)
        self._connect_timeout, self._read_timeout = settings.model.connect_timeout, settings.model.read_timeout
        #: Seconds of silence before the first token: a server may load the model at the first request, and stop
        #: loading when the client hangs up.
        self._first_timeout = max(settings.model.read_timeout, settings.model.loading_timeout)
        self._request_id_header = settings.model.request_id_header
        self._headers = {
            "Accept": "text/event-stream, application/json",
            # A proxy that compresses would hold chunks back.
            "Accept-Encoding": "identity",
            "User-Agent": "chatbot",
        }
        if settings.model.token:
            self._headers["Authorization"] = f"Bearer {settings.model.token}"
        self._adapter = _TrackingHTTPAdapter(
            pool_connections=4, pool_maxsize=settings.worker.concurrency, max_retries=0
        )
        self._templates: dict[str, requests.PreparedRequest] = {}
        # The environment's proxies and certificates are looked up once: for each call it would cost a
        # millisecond. `.netrc` must never replace the token.
        environment = requests.Session().merge_environment_settings(self.url, {}, True, None, None)
        self._proxies, self._verify = environment["proxies"], cast("bool | str", environment["verify"])
        if self._verify is True:
            # `requests` knows only variables of its own; Redis' connections use this one as well.
            self._verify = os.environ.get("SSL_CERT_FILE") or True
        # As `requests` takes it.
        certificate = settings.model.client_certificate
        self._certificate = certificate if len(certificate) == 2 else next(iter(certificate), None)

    @contextmanager
    def post(self, document: dict[str, Any], call: Call, url: str | None = None) -> Iterator[ModelResponse]:
        """Posts JSON; the response, to read while the context is open.

        Raises `ModelError` for every failure, also for those while the body is being read, and `CallCancelled`
        once the call is ended.
        """
        try:
            with self._post(document, call, url or self.url) as response:
                yield response
        except ModelError as error:
            error.detail = f"{error.detail} (asked {self.public_address})"
            raise

    @contextmanager
    def _post(self, document: dict[str, Any], call: Call, url: str) -> Iterator[ModelResponse]:
        _current.call, _current.reused = call, False
        response = None
        try:
            response = self._send_with_retry(self._prepared(url, json.dumps(document).encode(), call.request_id), call)
            readable = ModelResponse(response, call, self._read_timeout)
            if response.status_code not in _ANSWERED:
                raise_for_status(response.status_code, response.headers, readable.chunks())
            yield readable
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            call.check()
            raise self._failure(error, call) from error
        finally:
            _current.call = None
            call.done()
            if response is not None:
                _release(response)

    def get(self, url: str) -> Any:
        """The JSON at another address of the same server; None when there is none."""
        try:
            with self._send(requests.Request("GET", url, self._headers).prepare(), self._read_timeout) as response:
                return response.json() if response.status_code == 200 else None
        except (requests.RequestException, ValueError):
            return None

    def _prepared(self, url: str, body: bytes, request_id: str) -> requests.PreparedRequest:
        """A POST request. All but the body and the id is prepared once."""
        template = self._templates.get(url)
        if template is None:
            headers = {**self._headers, "Content-Type": "application/json"}
            template = self._templates[url] = requests.Request("POST", url, headers).prepare()
        prepared = requests.PreparedRequest()
        prepared.method, prepared.url = template.method, template.url
        prepared.headers = template.headers.copy()
        if request_id and self._request_id_header:
            prepared.headers[self._request_id_header] = request_id
        prepared.prepare_body(body, None)
        return prepared

    def _send_with_retry(self, prepared: requests.PreparedRequest, call: Call) -> requests.Response:
        """Sends again at once when the server had just closed a reused connection."""
        while True:
            try:
                return self._send(prepared, self._read_timeout if call.impatient else self._first_timeout)
            except requests.ConnectionError as error:
                call.check()
                if not _current.reused or not any(isinstance(cause, ConnectionError) for cause in causes(error)):
                    raise

    def _failure(self, error: Exception, call: Call) -> ModelError:
        failure = connection_error(error, self._connect_timeout, self._read_timeout)
        loads = not (call.begun or call.impatient) and self._first_timeout > self._read_timeout
        if loads and isinstance(error, (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError)):
            detail = f"no token within MODEL_LOADING_TIMEOUT, {self._first_timeout:g} s"
            return ModelUnavailable("timeout", detail)
        return failure

    def _send(self, prepared: requests.PreparedRequest, silence: float) -> requests.Response:
        """Uses the adapter without a session, so that no redirect is followed: another host must not get the token."""
        return self._adapter.send(
            prepared,
            stream=True,
            timeout=(self._connect_timeout, silence),
            verify=self._verify,
            cert=self._certificate,
            proxies=self._proxies,
        )


def check_certificate(paths: Sequence[str]) -> None:
    """Raises `ConfigurationError` if `paths`, a certificate and perhaps its key, are not usable."""
    if not paths:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(paths[0], paths[1] if paths[1:] else None, _no_password)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"MODEL_CLIENT_CERT is not usable ({', '.join(paths)}): {error}") from None


def _no_password() -> str:
    # Without this OpenSSL would ask the terminal.
    raise ValueError("the key has a password")


def public_address(url: str) -> str:
    """The URL without user, password, query and fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _release(response: requests.Response) -> None:
    """Puts the connection back into the pool if the body is at its end, or about to be; else closes it."""
    raw = cast(urllib3.HTTPResponse, response.raw)
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
