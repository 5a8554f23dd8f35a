"""The spans of a web process: the acceptance of a request for a reply, and the delivery of the reply."""

from __future__ import annotations

from flask import request

from chatbot import tracing
from chatbot.tracing import NOTHING, Opened
from chatbot.tracing.otlp import attribute, text_attribute

_SESSION, _MESSAGE = text_attribute("session.id"), text_attribute("chatbot.message.id")


def accepting(what: str, session: str, message_id: str) -> Opened:
    """The span of a request's acceptance; `what` names the request.

    It is below the span that the client names in its header `traceparent`. A socket outlives a request: the requests on
    it are traces of their own, with a link to the span that opened it.
    """
    if not tracing.on():
        return NOTHING
    environ = request.environ
    given, socket = environ.get("HTTP_TRACEPARENT"), "HTTP_SEC_WEBSOCKET_KEY" in environ
    span = tracing.root(f"accept {what}", parent=None if socket else given, link=given if socket else None)
    if span is None:
        return NOTHING
    if span.sampled:
        transport = attribute("chatbot.transport", "websocket" if socket else "http")
        span.attributes = _SESSION(session) + _MESSAGE(message_id) + transport
    return span


def delivering(trace: str, sockets: int) -> Opened:
    """The span of passing the end of a reply on to `sockets` of this process; `trace` came with the event."""
    span = tracing.continued(trace, "deliver") if trace else None
    if span is None or not span.sampled:
        return NOTHING
    span.attributes = attribute("chatbot.sockets", sockets)
    return span
