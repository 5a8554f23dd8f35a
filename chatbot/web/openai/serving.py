"""Serves what a caller waits for: a whole answer, or server-sent events. A wait holds a greenlet, not a worker.

A client that goes away is noticed within a second or two, except over TLS: there at the next event.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from flask import Response, request

from chatbot.errors import ChatbotError
from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.compact_json import to_json
from chatbot.protocol.openai.response import View
from chatbot.web import deadlines
from chatbot.web.deadlines import SEND_TIMEOUT
from chatbot.web.disconnects import raise_if_disconnected
from chatbot.web.openai.follow import Follower

logger = logging.getLogger(__name__)

#: The end of a stream.
DONE = "data: [DONE]\n\n"
UNAVAILABLE = "The server is not available right now: send this again in a moment"
#: Seconds without an event after which a comment is sent, so that no proxy takes the stream for dead.
_KEEP_ALIVE = 15.0


def wait_for_end(follower: Follower) -> View:
    """The response once it has ended. Raises `ConnectionError` when the client goes away first."""
    deadlines.allow(None)
    for view in follower:
        if view is not None and view.ended:
            deadlines.allow(SEND_TIMEOUT)
            return view
        raise_if_disconnected(request.environ)
    raise ClientError("unavailable", "The server is restarting: send this again", status=503, retry_after=1.0)


def event_stream(chunks: Iterator[str | None], finish: Callable[[bool], None]) -> Response:
    """An answer that sends `chunks` as they come; None stands for a second in which nothing came.

    At the end it calls `finish(whole)`: false when the client went away before.
    """
    environ = request.environ

    def body() -> Iterator[str]:
        whole = False
        try:
            sent_at = time.monotonic()
            deadlines.allow_streaming(environ)
            for chunk in chunks:
                now = time.monotonic()
                if chunk is None and now - sent_at < _KEEP_ALIVE:
                    raise_if_disconnected(environ)
                    continue
                sent_at = now
                yield ": keep-alive\n\n" if chunk is None else chunk
            whole = True
        except ConnectionError:
            logger.debug("the client of a stream went away")
        except ChatbotError as error:
            # The answer has begun: its status cannot say so any longer.
            logger.warning("a stream ends early: %s", error)
        finally:
            deadlines.allow(SEND_TIMEOUT)
            finish(whole)

    response = Response(body(), mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def event_text(document: dict[str, Any]) -> str:
    """A named event with its document."""
    return f"event: {document['type']}\ndata: {to_json(document)}\n\n"


def data_text(document: dict[str, Any]) -> str:
    """An event without a name."""
    return f"data: {to_json(document)}\n\n"
