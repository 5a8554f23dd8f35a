"""Posting to a model server with `requests`: connection reuse, time limits, cancelling, and what errors mean."""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn, cast, get_args
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from chatbot.config import Settings
from chatbot.telemetry.counters import ToldKind
from chatbot.worker.models.base import Call
from chatbot.worker.models.errors import (
    ModelError,
    ModelLoading,
    PermanentModelError,
    PromptTooLong,
    RequestRefused,
    TransientModelError,
)
from chatbot.worker.models.masking import Mask, address

#: Bytes of an error's body, or of a whole answer, that are read: far more than either needs.
MAX_BODY = 8 * 1024 * 1024
#: Characters of a server's error that are looked at; far fewer go into a log line.
_MAX_TOLD = 2000
#: Bytes asked of the connection at a time; what has arrived is handed out at once.
_READ_SIZE = 65536

#: Seconds given to the end of a body whose last event has been read: it comes with it, or not at all.
_DRAIN_TIMEOUT = 0.01

#: What servers say of a prompt that does not fit.
_TOO_LONG = re.compile(
    r"context (length|size|window)|exceed_context|(too|maximum) (long|tokens|length)|tokens? limit"
    r"|index \d+ is out of bounds|must have less than \d+ tokens|`?inputs`? (tokens|must)"
    r"|max_new_tokens` must be <=|longest (allowed|prompt)",
    re.IGNORECASE,
)

_TOLD_KINDS: dict[str, ToldKind] = {kind: kind for kind in get_args(ToldKind)}
_NO_SUCH_MODEL = re.compile(r"model\b.*\b(not exist|not found|unknown)|(no such|unknown) model", re.IGNORECASE)

_current = threading.local()


class _Tracked:
    """Tells the running call which connection it uses, so that it can be ended from another thread."""

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


class _Adapter(HTTPAdapter):
    """For one server: what is the same for each of its requests is found out once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._found: dict[str | None, Any] = {}
        super().__init__(*args, **kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def get_connection_with_tls_context(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        pool = self._found.get(request.url)
        if pool is None:
            pool = self._found[request.url] = super().get_connection_with_tls_context(request, *args, **kwargs)
        return pool


class Answer:
    """A 200 from the model server; its body is read as it arrives."""

    def __init__(self, response: requests.Response, call: Call) -> None:
        self._raw = cast(urllib3.HTTPResponse, response.raw)
        self._call = call
        self.content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def is_stream(self) -> bool:
        """Whether the body is a stream of server-sent events."""
        return self.content_type == "text/event-stream"

    def chunks(self) -> Iterator[bytes]:
        """The body, in whatever pieces it arrives."""
        while True:
            chunk = self._raw.read1(_READ_SIZE, decode_content=True)
            self._call.check()
            if not chunk:
                return
            yield chunk

    def json(self) -> Any:
        """The whole body as JSON. Raises `TransientModelError` when it is none."""
        body = bytearray()
        for chunk in self.chunks():
            body += chunk
            if len(body) > MAX_BODY:
                raise PermanentModelError("too_long", f"the answer is longer than {MAX_BODY} bytes")
        try:
            return json.loads(bytes(body))
        except (ValueError, RecursionError):
            # A page from a proxy says what is wrong; anything else may be what the model said.
            shown = f": {_excerpt(bytes(body))}" if body.lstrip().startswith(b"<") else ""
            raise TransientModelError("bad_answer", f"the answer is no JSON, {len(body)} bytes{shown}") from None


class ModelServer:
    """The address that is posted to. Safe for many threads, which share a pool of connections."""

    def __init__(self, url: str, settings: Settings) -> None:
        self.url = url
        #: The address without credentials, for people.
        self.name = address(url)
        self._timeouts = (settings.model.connect_timeout, settings.model.read_timeout)
        self._headers = {
            "Accept": "text/event-stream, application/json",
            # A proxy that compresses gathers the pieces first.
            "Accept-Encoding": "identity",
            "User-Agent": "chatbot",
        }
        if settings.model.token:
            self._headers["Authorization"] = f"Bearer {settings.model.token}"
        self._mask = Mask(url, settings.model.token)
        self._adapter = _Adapter(pool_connections=4, pool_maxsize=settings.worker.concurrency, max_retries=0)
        self._templates: dict[str, requests.PreparedRequest] = {}
        # Proxies and certificates of the environment are looked up once: doing it for each call costs a
        # millisecond, and `.netrc` must never replace the token.
        environment = requests.Session().merge_environment_settings(self.url, {}, True, None, None)
        self._proxies, self._verify = environment["proxies"], cast("bool | str", environment["verify"])

    @contextmanager
    def post(self, document: dict[str, Any], call: Call, url: str | None = None) -> Iterator[Answer]:
        """Posts JSON and gives the answer to read from.

        Raises `ModelError` for every failure, also for those while the body is being read, and `CallCancelled`
        once the call is ended. What the server says of a failure is told without credentials, and without what
        people said.
        """
        try:
            with self._post(document, call, url or self.url) as answer:
                yield answer
        except ModelError as error:
            error.detail = f"{self._mask(error.detail, document)} (asked {self.name})"
            raise

    @contextmanager
    def _post(self, document: dict[str, Any], call: Call, url: str) -> Iterator[Answer]:
        _current.call, _current.reused = call, False
        response = None
        try:
            response = self._ask(self._prepared(url, json.dumps(document).encode()), call)
            answer = Answer(response, call)
            if response.status_code != 200:
                _raise_for_status(response, answer)
            yield answer
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            call.check()
            raise _connection_error(error, *self._timeouts) from error
        finally:
            _current.call = None
            call.done()
            if response is not None:
                _give_back(response)

    def get(self, url: str) -> Any:
        """What the server tells at another address of its own, as JSON; None when it tells nothing there."""
        try:
            with self._send(requests.Request("GET", url, self._headers).prepare()) as response:
                return response.json() if response.status_code == 200 else None
        except (requests.RequestException, ValueError):
            return None

    def _prepared(self, url: str, body: bytes) -> requests.PreparedRequest:
        """A POST; all but the body is prepared once."""
        template = self._templates.get(url)
        if template is None:
            headers = {**self._headers, "Content-Type": "application/json"}
            template = self._templates[url] = requests.Request("POST", url, headers).prepare()
        prepared = requests.PreparedRequest()
        prepared.method, prepared.url = template.method, template.url
        prepared.headers = template.headers.copy()
        prepared.prepare_body(body, None)
        return prepared

    def _ask(self, prepared: requests.PreparedRequest, call: Call) -> requests.Response:
        """Asks again at once where a connection that was kept had been closed by the server just then."""
        while True:
            try:
                return self._send(prepared)
            except requests.ConnectionError as error:
                call.check()
                if not _current.reused or not any(isinstance(cause, ConnectionError) for cause in _causes(error)):
                    raise

    def _send(self, prepared: requests.PreparedRequest) -> requests.Response:
        """Straight to the adapter: cookies, hooks and redirects, which a session would see to, are not wanted. A
        redirect to another host must not get the token."""
        return self._adapter.send(
            prepared, stream=True, timeout=self._timeouts, verify=self._verify, proxies=self._proxies
        )


def raise_for_error(document: Any, status: int = 200, retry_after: float | None = None) -> None:
    """Raises the `ModelError` that an answer with an `error` in it stands for; returns when it has none."""
    error = document.get("error") if isinstance(document, dict) else None
    if error is None and status == 200:
        return
    detail, kind = _describe(error if error is not None else document), ""
    if isinstance(document, dict) and isinstance(document.get("error_type"), str):
        kind = document["error_type"]
    if "loading" in detail.lower() and status in (200, 503):
        estimate = document.get("estimated_time") if isinstance(document, dict) else None
        if isinstance(estimate, (int, float)) and 0 <= estimate < 86400:
            retry_after = float(estimate)
        raise ModelLoading("loading", detail, retry_after=retry_after)
    raise _status_error(status, kind, detail, retry_after)


def _raise_for_status(response: requests.Response, answer: Answer) -> NoReturn:
    status = response.status_code
    if 300 <= status < 400:
        target = urlsplit(response.headers.get("Location", ""))
        raise PermanentModelError(
            "redirect",
            f"{status} to {target.scheme}://{target.hostname}: redirects are not followed; set MODEL_URL to the "
            "address that answers",
        )
    body = bytearray()
    for chunk in answer.chunks():
        body += chunk
        if len(body) > _MAX_TOLD * 4:
            break
    try:
        document = json.loads(bytes(body))
    except (ValueError, RecursionError):
        document = _excerpt(bytes(body))
    raise_for_error(document, status, _retry_after(response))
    raise AssertionError("a status other than 200 always raises")


def _status_error(status: int, kind: str, detail: str, retry_after: float | None) -> ModelError:
    match status:
        case 401 | 403:
            return PermanentModelError(
                "unauthorized",
                f"{status}: the server refuses the token; check HUGGINGFACE_INFERENCE_TOKEN: {detail}",
            )
        case 402:
            return PermanentModelError("credits", f"402: the account has no credits left: {detail}")
        case 404 if _NO_SUCH_MODEL.search(detail):
            return PermanentModelError("no_such_model", f"404: check MODEL_NAME: {detail}")
        case 404 | 405 | 410:
            return PermanentModelError(
                "not_found",
                f"{status}: nothing to post to at this address; check MODEL_URL and MODEL_API: {detail}",
            )
        case 429:
            return TransientModelError("rate_limited", f"429: {detail}", retry_after=retry_after)
        case 408 | 409 | 424 | 425:
            return TransientModelError("busy", f"{status}: {detail}", retry_after=retry_after)
        case 200 if kind in ("validation", "invalid_request_error") or _TOO_LONG.search(detail):
            return _refusal(f"an error in the answer: {detail}")
        case 200:
            return TransientModelError(_TOLD_KINDS.get(kind, "generation"), f"an error in the answer: {detail}")
        case _ if 400 <= status < 500:
            return _refusal(f"{status}: {detail}")
        case _:
            return TransientModelError("server_error", f"{status}: {detail}", retry_after=retry_after)


def _refusal(detail: str) -> ModelError:
    if _TOO_LONG.search(detail):
        return PromptTooLong(
            "too_long", f"{detail}: MAX_PROMPT_TOKENS and MAX_NEW_TOKENS must fit the model's context together"
        )
    return RequestRefused("refused", detail)


def _connection_error(error: Exception, connect_timeout: float, read_timeout: float) -> ModelError:
    causes = list(_causes(error))
    # The innermost says what happened, those around it only who was told.
    text = f"{type(causes[-1]).__name__}: {causes[-1]}"
    if isinstance(error, requests.exceptions.SSLError) and not any(isinstance(c, _CUT_OFF) for c in causes):
        return PermanentModelError("tls", f"{text}; an authority of your own goes into REQUESTS_CA_BUNDLE")
    if "handshake" in text and isinstance(error, requests.Timeout):
        return TransientModelError(
            "tls", f"no TLS handshake within MODEL_CONNECT_TIMEOUT, {connect_timeout:g} s; does the server speak TLS?"
        )
    if isinstance(error, requests.ConnectTimeout):
        return TransientModelError("timeout", f"no connection within MODEL_CONNECT_TIMEOUT, {connect_timeout:g} s")
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)):
        return TransientModelError("timeout", f"silent for longer than MODEL_READ_TIMEOUT, {read_timeout:g} s")
    if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema)):
        return PermanentModelError("address", f"check MODEL_URL: {text}")
    return TransientModelError("connection", text)


#: How a TLS connection ends that a restarting server or a network cuts: no reason to give up.
_CUT_OFF = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was made from, in the ways of requests and urllib3."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        inner = (getattr(seen, "reason", None), *seen.args[:2], seen.__cause__)
        seen = next((e for e in inner if isinstance(e, BaseException)), None)


def _retry_after(response: requests.Response) -> float | None:
    told = str(response.headers.get("Retry-After"))
    try:
        seconds = float(told) if told[:1].isdigit() else parsedate_to_datetime(told).timestamp() - time.time()
    except (ValueError, OverflowError):
        # Absent, or nothing that can be read: then the own backoff serves.
        return None
    return seconds if 0 <= seconds < 86400 else None


def _describe(error: Any) -> str:
    if isinstance(error, dict):
        error = error.get("message", error)
    return _one_line(error if isinstance(error, str) else json.dumps(error))


def _excerpt(body: bytes) -> str:
    return _one_line(body[:_MAX_TOLD].decode("utf-8", "replace")) or "(empty)"


def _one_line(text: str) -> str:
    # Cut for good once it is masked.
    return " ".join(text.split())[:_MAX_TOLD]


def _give_back(response: requests.Response) -> None:
    """Puts the connection back into the pool if the body is at its end, or about to be; else closes it."""
    raw = cast(urllib3.HTTPResponse, response.raw)
    sock = getattr(getattr(raw, "_connection", None), "sock", None)
    try:
        if sock is not None:
            sock.settimeout(_DRAIN_TIMEOUT)
            deadline = time.monotonic() + _DRAIN_TIMEOUT
            while raw.read1(_READ_SIZE, decode_content=True):
                if time.monotonic() > deadline:
                    # It goes on, behind a stop sequence say: that is nobody's business any more.
                    raw.close()
                    break
    except (urllib3.exceptions.HTTPError, OSError, ValueError):
        # Cut, cancelled, or not at its end: not to be used again.
        raw.close()
    raw.release_conn()
