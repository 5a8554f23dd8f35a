"""What routes share: JSON answers, and the token and body of a request."""

from __future__ import annotations

import logging
import math
from typing import Any

from flask import Response, request
from gunicorn.http.errors import ParseException

from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.compact_json import to_json

logger = logging.getLogger(__name__)


def json_answer(document: dict[str, Any], *, status: int = 200, cache: bool = True) -> Response:
    """An answer with a document as JSON; without `cache`, browsers and proxies must not store it."""
    return json_text_answer(to_json(document), status=status, cache=cache)


def json_text_answer(text: str, *, status: int = 200, cache: bool = True) -> Response:
    """The same for a text that is JSON already."""
    response = Response(text, status=status, mimetype="application/json")
    if not cache:
        response.headers["Cache-Control"] = "no-store"
    return response


def with_retry_after(response: Response, error: ClientError) -> Response:
    """Adds `Retry-After`, in whole seconds, if the error has a time."""
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    return response


def request_body(*, cache: bool = True) -> bytes:
    """The body of the request. Raises `ClientError` for one that is incomplete. With `cache` it can be read again."""
    try:
        return request.get_data(cache=cache)
    except (OSError, ParseException) as error:
        # Broken chunks, or a client that disconnected. The error's text repeats the body, so only its type is logged.
        logger.info("a body could not be read: %s", type(error).__name__)
        raise ClientError("bad_request", "The request body is incomplete or broken: send it again") from None


def bearer_token() -> str | None:
    """The session's token, from the header or the query."""
    return authorization() or request.args.get("token") or None


def authorization() -> str | None:
    """The bearer token in the header."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return (value.strip() or None) if scheme.lower() == "bearer" else None
