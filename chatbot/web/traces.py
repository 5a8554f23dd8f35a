"""The spans of a web process: the acceptance of a request for a reply, and the delivery of the reply."""

from __future__ import annotations

from flask import request

from chatbot import tracing
from chatbot.tracing import NOTHING, Opened


def accepting(what: str, session: str, message_id: str) -> Opened:
    """The span of a request's acceptance; `what` names the request.

    It is below the span that the client names in its header `traceparent`. A socket outlives a request: the requests on
    it are traces of their own, with a link to the span that opened it.
    """
    if not tracing.on():
        return NOTHING
    given = request.headers.get("traceparent")
    socket = "Sec-WebSocket-Key" in request.headers
    return tracing.root(
        f"accept {what}",
        parent=None if socket else given,
        link=given if socket else None,
        attributes={
            "session.id": session,
            "chatbot.message.id": message_id,
            "chatbot.transport": "websocket" if socket else "http",
        },
    )


def delivering(trace: str, sockets: int) -> Opened:
    """The span of passing the end of a reply on to `sockets` of this process; `trace` came with the event."""
    span = tracing.continued(trace, "deliver") if trace else None
    if span is None or not span.context.sampled:
        return NOTHING
    span.attributes["chatbot.sockets"] = sockets
    return span
