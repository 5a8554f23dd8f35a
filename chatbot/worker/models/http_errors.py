"""What a model server's status, error document or broken connection means, as a `ModelError`.

The server's own text decides the type and the kind of the error, but never becomes part of the error's text: servers
quote requests, validators the body and proxies the headers. The log gets the server's error code and type, and the
length of its text. `ModelError.server_text` holds the text itself.
"""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn, get_args
from urllib.parse import urlsplit

import requests
import urllib3

from chatbot.telemetry.counters import ServerErrorKind
from chatbot.worker.models.errors import (
    ModelError,
    ModelLoading,
    PermanentModelError,
    PromptTooLong,
    RequestRefused,
    TransientModelError,
)

#: Characters of a server's error text that are searched and stored.
_MAX_SERVER_TEXT = 2000
#: Bytes of an error's body that are read.
_MAX_ERROR_BODY = 65536
#: Seconds; a server that asks for a longer wait is not believed.
_MAX_RETRY_AFTER = 86400

#: The wording of servers for a prompt that does not fit.
_TOO_LONG = re.compile(
    r"context (length|size|window)|exceed_context|(too|maximum) (long|tokens|length)|tokens? limit"
    r"|index \d+ is out of bounds|must have less than \d+ tokens|`?inputs`? (tokens|must)"
    r"|max_new_tokens` must be <=|longest (allowed|prompt)",
    re.IGNORECASE,
)
_NO_SUCH_MODEL = re.compile(r"model\b.*\b(not exist|not found|unknown)|(no such|unknown) model", re.IGNORECASE)
_SERVER_KINDS: dict[str, ServerErrorKind] = {kind: kind for kind in get_args(ServerErrorKind)}
#: A name that may be logged: too short and too plain to quote a request.
_IDENTIFIER = re.compile(r"[A-Za-z0-9_.-]{1,64}")
#: Error texts of Python and requests, which quote no server.
_LOCAL_TEXT = re.compile(r"Tunnel connection failed: \d{3}|Could not find a suitable TLS CA certificate bundle")
#: How a TLS connection ends that a restarting server or a network cuts: no reason to give up.
_TLS_CUT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError)


def raise_for_status(status: int, headers: Mapping[str, str], body: Iterable[bytes]) -> NoReturn:
    """Raises the `ModelError` that a status other than 200 stands for."""
    if 300 <= status < 400:
        target = urlsplit(headers.get("Location", ""))
        shown = target.scheme in ("http", "https") and _IDENTIFIER.fullmatch(target.hostname or "")
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
    try:
        document = json.loads(bytes(content))
    except (ValueError, RecursionError):
        document = content.decode("utf-8", "replace")
    raise_for_error(document, status, _retry_after(headers.get("Retry-After", "")))
    raise AssertionError("a status other than 200 always raises")


def raise_for_error(document: Any, status: int = 200, retry_after: float | None = None) -> None:
    """Raises the `ModelError` for a document with an `error`, and for every document under another status than 200."""
    fields = document if isinstance(document, dict) else {}
    error = fields.get("error")
    if error is None and status == 200:
        return
    described = error if error is not None else document
    message = described.get("message", described) if isinstance(described, dict) else described
    text = one_line(message if isinstance(message, str) else json.dumps(message, ensure_ascii=False))
    kind = fields["error_type"] if isinstance(fields.get("error_type"), str) else ""
    inner = described if isinstance(described, dict) else fields
    names = [
        str(name) for name in (kind, inner.get("type"), inner.get("code")) if _is_identifier(name) and name != status
    ]
    summary = ", ".join([*dict.fromkeys(names), f"error text of {len(text)} characters"])
    estimate = fields.get("estimated_time")
    text = text[:_MAX_SERVER_TEXT]
    if "loading" in text.lower() and status in (200, 503):
        if isinstance(estimate, (int, float)) and 0 <= estimate < _MAX_RETRY_AFTER:
            retry_after = float(estimate)
        failure: ModelError = ModelLoading("loading", f"{status}: {summary}", retry_after=retry_after)
    else:
        failure = _status_error(status, kind, text, summary, retry_after)
    failure.server_text = text
    raise failure


def _is_identifier(name: Any) -> bool:
    return isinstance(name, (str, int)) and _IDENTIFIER.fullmatch(str(name)) is not None


def _status_error(status: int, kind: str, text: str, summary: str, retry_after: float | None) -> ModelError:
    match status:
        case 401 | 403:
            return PermanentModelError(
                "unauthorized",
                f"{status}: the server refuses the token; check HUGGINGFACE_INFERENCE_TOKEN: {summary}",
            )
        case 402:
            return PermanentModelError("credits", f"402: the account has no credits left: {summary}")
        case 404 if _NO_SUCH_MODEL.search(text):
            return PermanentModelError("no_such_model", f"404: check MODEL_NAME: {summary}")
        case 404 | 405 | 410:
            return PermanentModelError(
                "not_found",
                f"{status}: nothing to post to at this address; check MODEL_URL and MODEL_API: {summary}",
            )
        case 429:
            return TransientModelError("rate_limited", f"429: {summary}", retry_after=retry_after)
        case 408 | 409 | 424 | 425:
            return TransientModelError("busy", f"{status}: {summary}", retry_after=retry_after)
        case 200 if kind in ("validation", "invalid_request_error") or _TOO_LONG.search(text):
            return _refusal(text, f"an error in the answer: {summary}")
        case 200:
            return TransientModelError(_SERVER_KINDS.get(kind, "generation"), f"an error in the answer: {summary}")
        case _ if 400 <= status < 500:
            return _refusal(text, f"{status}: {summary}")
        case _:
            return TransientModelError("server_error", f"{status}: {summary}", retry_after=retry_after)


def _refusal(text: str, detail: str) -> ModelError:
    if _TOO_LONG.search(text):
        return PromptTooLong(
            "too_long", f"{detail}: MAX_PROMPT_TOKENS and MAX_NEW_TOKENS must fit the model's context together"
        )
    return RequestRefused("refused", f"{detail}; check MODEL_NAME; `flask --app wsgi model-check` shows error texts")


def connection_error(error: Exception, connect_timeout: float, read_timeout: float) -> ModelError:
    """The `ModelError` for an exception of requests, urllib3 or a socket; timeouts in seconds, as they were set."""
    chain = list(causes(error))
    # The innermost says what happened, the others only where it was caught.
    reason = _reason(chain[-1])
    if isinstance(error, requests.exceptions.SSLError) and not any(isinstance(c, _TLS_CUT) for c in chain):
        return PermanentModelError(
            "tls", f"{reason}; an authority of your own goes into REQUESTS_CA_BUNDLE or SSL_CERT_FILE"
        )
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
    return TransientModelError("connection", reason)


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and the errors that it wraps, in the ways of requests and urllib3, outermost first."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        inner = (getattr(seen, "reason", None), *seen.args[:2], seen.__cause__)
        seen = next((e for e in inner if isinstance(e, BaseException)), None)


def one_line(text: str) -> str:
    """The text with every run of white space as one space."""
    return " ".join(text.split())


def _reason(error: BaseException) -> str:
    """The error's type, and its text where that comes from this machine: others quote the server or the address."""
    local = _LOCAL_TEXT.match(str(error))
    text = local[0] if local else error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _retry_after(value: str) -> float | None:
    try:
        seconds = float(value) if value[:1].isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError):
        # Absent or unreadable: the worker's own backoff serves.
        return None
    return seconds if 0 <= seconds < _MAX_RETRY_AFTER else None
