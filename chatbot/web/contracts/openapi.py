"""The OpenAPI document: every route, each with the answers that occur."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from marshmallow import Schema

from chatbot.protocol.answer_schemas import (
    AliveSchema,
    FrameRefusalSchema,
    HistorySchema,
    NewSessionSchema,
    NotReadySchema,
    PollSchema,
    ReadySchema,
    SentSchema,
)
from chatbot.protocol.chat_files import ChatFileSchema
from chatbot.protocol.documents import NameSchema
from chatbot.web.contracts.components import INFO, component_schemas, reference
from chatbot.web.contracts.openai_operations import OPENAI_OPERATIONS
from chatbot.web.contracts.operations import Answer, Operation, part, query, refusals

_TEXT, _HTML, _JSON = "text/plain", "text/html", "application/json"
_DESCRIPTION = (
    "The HTTP routes. A client ignores fields that it does not know. A request whose head is too long gets 414 or 431 "
    "on any path, a path without a route 404, another method 405, each with an Error."
)
_SUMMARIES = {
    "400": "The request is wrong; its code says how",
    "401": "A bearer token is missing or wrong",
    "403": "The request comes from a page of another origin",
    "404": "There is nothing at this address, or no such message",
    "405": "The request is no websocket handshake",
    "409": "Not now: the code says why",
    "413": "The body is too large",
    "429": "Too many requests: send it again after `Retry-After` seconds",
    "502": "The model gave no reply",
    "503": "Redis does not answer: send it again in a moment",
}


_AFTER = query("after", "The last whole message that the client holds")
_FRAME_REFUSALS = ("400", "403", "404", "409", "413", "429", "503")
_TOKEN = ("token", "tokenInQuery")

#: Every path may get this: the host is not served, or is not a host name.
_ANY = refusals("400")

OPERATIONS = (
    Operation("get", "/", "The chat page", {"200": _HTML, **_ANY}),
    Operation(
        "get", "/c/{id}", "The chat page, which opens the chat with this id", {"200": _HTML, **_ANY}, [part("id")]
    ),
    Operation(
        "get",
        "/static/{version}/{name}",
        "A file of the page",
        {"200": "*/*", **_ANY, **refusals("404")},
        [part("version"), part("name")],
    ),
    Operation("get", "/static/client.js", "The client for other pages", {"302": None, **_ANY}),
    Operation(
        "post",
        "/token",
        "Create a session for a name, given in the body, as a form, or in the query",
        {"200": NewSessionSchema, **refusals("400", "403", "413", "429", "503")},
        [query("name", "The name, instead of a body")],
        NameSchema,
    ),
    Operation(
        "post",
        "/import",
        "Create a session with the messages of an exported chat; the answer has none of them",
        {"200": NewSessionSchema, **refusals("400", "403", "413", "429", "503")},
        body=ChatFileSchema,
    ),
    Operation(
        "delete",
        "/token",
        "End the session, and delete all that is stored of it",
        {"204": None, **refusals("400", "403", "429", "503")},
        security=_TOKEN,
    ),
    Operation(
        "get",
        "/refresh_token",
        "The session with a page of its history; its time to live begins anew",
        {"200": HistorySchema, **refusals("400", "403", "429", "503")},
        [
            query("before", "The page before the message with this id"),
            query("limit", "Messages of the page, at most", type="integer", minimum=1, maximum=200),
        ],
        security=_TOKEN,
    ),
    Operation(
        "get",
        "/chat",
        "The websocket; see the AsyncAPI document",
        {"101": None, **refusals("400", "403", "429")},
        [_AFTER],
        security=_TOKEN,
    ),
    Operation(
        "get",
        "/events",
        "The frames of the websocket as server-sent events",
        {"200": "text/event-stream", **refusals("400", "403", "429", "503")},
        [_AFTER, {**_AFTER, "name": "Last-Event-ID", "in": "header"}],
        security=_TOKEN,
    ),
    Operation(
        "get",
        "/messages",
        "The frames of the websocket since the last poll",
        {"200": PollSchema, **refusals("400", "403", "429", "503")},
        [
            {**_AFTER, "description": "A message's id, or the `after` of the last answer"},
            query("wait", "Seconds to wait when there is nothing; above 50 they count as 50", type="number", minimum=0),
        ],
        security=_TOKEN,
    ),
    Operation(
        "post",
        "/messages",
        "Send one frame of the websocket, or text as typed",
        {"200": SentSchema, "204": None, **dict.fromkeys(_FRAME_REFUSALS, FrameRefusalSchema)},
        body=dict,
        security=_TOKEN,
    ),
    Operation("get", "/healthz", "Liveness", {"200": AliveSchema, **_ANY}),
    Operation("get", "/readyz", "Readiness", {"200": ReadySchema, **_ANY, "503": NotReadySchema}),
    Operation(
        "get",
        "/metrics",
        "Prometheus text",
        {"200": _TEXT, **_ANY, **refusals("401")},
        security=("metricsToken",),
    ),
    Operation("get", "/openapi.json", "This document", {"200": _JSON, **_ANY}),
    Operation("get", "/asyncapi.json", "The contract of the websocket, as AsyncAPI", {"200": _JSON, **_ANY}),
)

_BEARER = {"type": "http", "scheme": "bearer"}
_SECURITY = {
    "token": {**_BEARER, "description": "The token of a session"},
    "tokenInQuery": {"type": "apiKey", "in": "query", "name": "token", "description": "The same in the query"},
    "apiKey": {**_BEARER, "description": "An API key; not needed where API_KEYS is off"},
    "metricsToken": {**_BEARER, "description": "METRICS_TOKEN; not needed where that is unset"},
}


def openapi(operations: Sequence[Operation] = (*OPERATIONS, *OPENAI_OPERATIONS)) -> dict[str, Any]:
    """The document, as OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    used: list[type[Schema]] = []
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
        contents = [content for answer in operation.answers.values() for content in _contents(answer)]
        contents += [operation.body] if operation.body else []
        used += [content for content in contents if isinstance(content, type) and issubclass(content, Schema)]
    return {
        "openapi": "3.1.0",
        "info": {**INFO, "description": _DESCRIPTION},
        "paths": paths,
        "components": {"schemas": component_schemas(used), "securitySchemes": _SECURITY},
    }


def _operation(operation: Operation) -> dict[str, Any]:
    document: dict[str, Any] = {
        "summary": operation.summary,
        "responses": {status: _answer(status, content) for status, content in operation.answers.items()},
    }
    if operation.parameters:
        document["parameters"] = list(operation.parameters)
    if operation.body:
        frame: dict[str, Any] = {_JSON: {}, _TEXT: {}}
        body = operation.body
        content = {_JSON: {"schema": reference(body)}} if issubclass(body, Schema) else frame
        document["requestBody"] = {"content": content}
    if operation.security:
        document["security"] = [{name: []} for name in operation.security]
    return document


def _answer(status: str, held: Answer) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": _SUMMARIES.get(status, "As asked for")}
    for content in _contents(held):
        described = (content, {}) if isinstance(content, str) else (_JSON, {"schema": reference(content)})
        answer.setdefault("content", {})[described[0]] = described[1]
    if status == "429":
        answer["headers"] = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}}
    return answer


def _contents(answer: Answer) -> list[Any]:
    if answer is None:
        return []
    return list(answer) if isinstance(answer, tuple) else [answer]
