"""Reads the body of a request below `/v1`."""

from __future__ import annotations

import logging
from typing import Any

from flask import request
from gunicorn.http.errors import ParseException

from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.openai.create import parse_json

logger = logging.getLogger(__name__)

#: Bytes of a body, and of a frame of the websocket: conversations come whole, and images as text.
MAX_BODY = 8 * 1024 * 1024


def read_json() -> dict[str, Any]:
    """The JSON object in the body of the current request. Raises `ClientError`."""
    try:
        body = request.get_data(cache=False)
    except (OSError, ParseException) as error:
        # The error's text repeats the body.
        logger.info("a body could not be read: %s", type(error).__name__)
        raise ClientError("bad_request", "The request body is incomplete or broken: send it again") from None
    return parse_json(body)
