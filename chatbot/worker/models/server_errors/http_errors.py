"""What a model server's status, error document or broken connection means, as a `ModelError`.

The server's own text decides the type and the kind of the error, but never becomes part of the error's text. Servers
quote requests, validators quote the body, and proxies the headers. The log gets the server's error code and type, and
the length of its text. `ModelError.server_text` holds the text itself.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn, get_args
from urllib.parse import urlsplit

import requests
import urllib3

from chatbot.telemetry.counters import ModelErrorKind, ServerErrorKind
from chatbot.worker.models.errors import (
    ContentRefused,
    ModelError,
    ModelLoading,
    ModelUnavailable,
    NotSupported,
    PermanentModelError,
    PromptTooLong,
    RequestRefused,
    TransientModelError,
)
from chatbot.worker.models.server_errors.documents import ServerError, server_error
from chatbot.worker.models.server_errors.retry_after import wait_in_error, wait_in_headers
from chatbot.worker.models.server_errors.table import Meaning, meaning
from chatbot.worker.models.server_errors.transfer_errors import TransferFailed, tls_advice, transfer_error

#: Bytes of an error's body that are read.
_MAX_ERROR_BODY = 65536
#: Seconds; a longer estimate of a loading time is not believed.
_MAX_ESTIMATE = 86400
_SERVER_KINDS: dict[str, ServerErrorKind] = {kind: kind for kind in get_args(ServerErrorKind)}
_HOST = re.compile(r"[A-Za-z0-9_.-]{1,64}")
#: Error texts of Python and requests, which quote no server.
_LOCAL_TEXT = re.compile(r"Tunnel connection failed: \d{3}|Could not find a suitable TLS CA certificate bundle")
#: How a TLS connection ends that a restarting server or a network cuts: no reason to give up.
_TLS_CUT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError)
#: What to do about an error that repeats: kind, and advice.
_PERMANENT: dict[Meaning, tuple[ModelErrorKind, str]] = {
    Meaning.TOKEN: ("unauthorized", "the server refuses the token; check HUGGINGFACE_INFERENCE_TOKEN: "),
    Meaning.PROXY: ("unauthorized", "the proxy asks for a login; check HTTPS_PROXY and HTTP_PROXY: "),
    Meaning.CREDITS: ("credits", "the account has no credits left: "),
    Meaning.NO_SUCH_MODEL: ("no_such_model", "check MODEL_NAME: "),
    Meaning.NOT_FOUND: ("not_found", "nothing to post to at this address; check MODEL_URL and MODEL_API: "),
}


def raise_for_status(status: int, headers: Mapping[str, str], body: Iterable[bytes]) -> NoReturn:
    """Raises the `ModelError` that a status without an answer stands for."""
    if status == 202:
        raise ModelLoading("loading", "202: the server has accepted the request, and has no answer yet")
    if status < 300:
        raise TransientModelError("bad_answer", f"{status}: the answer has no content")
    if status < 400:
        target = urlsplit(headers.get("Location", ""))
        shown = target.scheme in ("http", "https") and _HOST.fullmatch(target.hostname or "")
        raise PermanentModelError(
            "redirect",
            f"{status}{f' to {target.scheme}://{target.hostname}' if shown else ''}: redirects are not followed; "
            "set MODEL_URL to the address that answers",
        )
    content = bytearray()
    for chunk in body:
        content += chunk
        if len(content) > _MAX_ERROR_BODY:
            break
    text = content.decode("utf-8-sig", "replace")
    try:
        document = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        document = _document_in_events(text) or text
    raise_for_error(document, status, wait_in_headers(headers))
    raise AssertionError("a status other than 200 always raises")


def _document_in_events(text: str) -> Any:
    """The error that a server sent as an event of a stream, under an error's status."""
    for line in text.splitlines():
        if line.startswith("data:"):
            try:
                return json.loads(line[5:], strict=False)
            except (ValueError, RecursionError):
                continue
    return None


def raise_for_error(
    document: Any, status: int = 200, retry_after: float | None = None, *, failed: bool = False
) -> None:
    """Raises the `ModelError` for a document that describes an error, and for every document of a failed request."""
    error = server_error(document, failed=failed or status != 200)
    if error is not None:
        failure = model_error(error, status, retry_after)
        failure.server_text = error.text
        failure.server_words = error.search
        failure.server_parameters = error.parameters
        raise failure


def model_error(error: ServerError, http_status: int, retry_after: float | None) -> ModelError:
    """The `ModelError` for what a server described, under its HTTP status."""
    # Under 200 a status in the document is the one that the server, or the provider behind it, meant.
    status = error.status or http_status if http_status == 200 else http_status
    names = [name for name in error.names if name != str(status)]
    summary = ", ".join([*names, f"error text of {len(error.text)} characters"])
    where = f"{status}" if http_status != 200 else "an error in the answer"
    detail = f"{where}: {summary}"
    wait = retry_after if retry_after is not None else wait_in_error(error.details, error.search)
    what = meaning(status, error.names, error.search, waits=wait is not None)
    match what:
        case Meaning.LOADING:
            estimate = error.estimated_time
            known = estimate is not None and 0 <= estimate < _MAX_ESTIMATE
            return ModelLoading("loading", detail, retry_after=estimate if known else wait)
        case Meaning.TOO_LONG:
            fit = "MAX_PROMPT_TOKENS and MAX_NEW_TOKENS must fit the model's context together"
            return PromptTooLong("too_long", f"{detail}: {fit}")
        case Meaning.UNSUPPORTED:
            return NotSupported("refused", f"{detail}: the model has no images or no tools")
        case Meaning.CONTENT:
            return ContentRefused("content_filter", f"{detail}: the server's content filter refuses the prompt")
        case Meaning.REFUSED:
            return RequestRefused(
                "refused", f"{detail}; check MODEL_NAME; `flask --app wsgi model-check` shows error texts"
            )
        case Meaning.RATE:
            return TransientModelError("rate_limited", detail, retry_after=wait)
        case Meaning.BUSY:
            return TransientModelError("busy", detail, retry_after=wait)
        case Meaning.OVERLOADED:
            return ModelUnavailable("overloaded", detail, retry_after=wait)
        case Meaning.UNAVAILABLE:
            return ModelUnavailable("server_error", detail, retry_after=wait)
        case Meaning.FAILED:
            usual: ModelErrorKind = "generation" if http_status == 200 else "server_error"
            kind = next((_SERVER_KINDS[name] for name in error.names if name in _SERVER_KINDS), usual)
            return TransientModelError(kind if http_status == 200 else usual, detail, retry_after=wait)
        case _:
            kind, advice = _PERMANENT[what]
            return PermanentModelError(kind, f"{where}: {advice}{summary}")


def connection_error(error: Exception, connect_timeout: float, read_timeout: float) -> ModelError:
    """The `ModelError` for an exception of an HTTP client or a socket; timeouts in seconds, as they were set."""
    if isinstance(error, TransferFailed):
        return transfer_error(error, connect_timeout)
    chain = list(causes(error))
    # The innermost says what happened, the others only where it was caught.
    reason = _reason(chain[-1])
    if isinstance(error, requests.exceptions.SSLError) and not any(isinstance(c, _TLS_CUT) for c in chain):
        return PermanentModelError("tls", f"{reason}; {tls_advice(reason)}")
    if "handshake" in str(chain[-1]) and isinstance(error, requests.Timeout):
        return TransientModelError(
            "tls", f"no TLS handshake within MODEL_CONNECT_TIMEOUT, {connect_timeout:g} s; does the server use TLS?"
        )
    if isinstance(error, requests.ConnectTimeout):
        return TransientModelError("timeout", f"no connection within MODEL_CONNECT_TIMEOUT, {connect_timeout:g} s")
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)):
        return TransientModelError("timeout", f"silent for longer than MODEL_READ_TIMEOUT, {read_timeout:g} s")
    if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema)):
        return PermanentModelError("address", f"check MODEL_URL: {reason}")
    if isinstance(chain[-1], ConnectionRefusedError):
        # Without a proxy in front, which would answer 503, this is how a server restarts.
        return ModelUnavailable("connection", reason)
    return TransientModelError("connection", reason)


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and the errors that it wraps, in the ways of requests and urllib3, outermost first."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        inner = (getattr(seen, "reason", None), *seen.args[:2], seen.__cause__)
        seen = next((e for e in inner if isinstance(e, BaseException)), None)


def _reason(error: BaseException) -> str:
    """The error's type, and its text where that comes from this machine: others quote the server or the address."""
    local = _LOCAL_TEXT.match(str(error))
    text = local[0] if local else error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
