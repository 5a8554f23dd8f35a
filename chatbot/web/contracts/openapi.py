"""The OpenAPI document: every route but those below `/v1`, each with the answers that occur."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from marshmallow import Schema

from chatbot.protocol.answer_schemas import (
    AliveSchema,
    ErrorSchema,
    FrameRefusalSchema,
    HistorySchema,
    NewSessionSchema,
    NotReadySchema,
    PollSchema,
    ReadySchema,
    SentSchema,
)
from chatbot.protocol.documents import NameSchema
from chatbot.web.contracts.components import INFO, component_schemas, reference

#: What an answer holds: a schema for JSON, or a media type.
Content = type[Schema] | str | None

_ERROR: Content = ErrorSchema
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
    "409": "Not now: the code says why",
    "413": "The body is too large",
    "429": "Too many requests: send it again after `Retry-After` seconds",
    "503": "Redis does not answer: send it again in a moment",
}


@dataclass(frozen=True)
class Operation:
    """A method of a path, and its answers by status."""

    method: str
    path: str
    summary: str
    answers: Mapping[str, Content]
    parameters: Sequence[dict[str, Any]] = ()
    #: `dict` for a frame of the websocket.
    body: type[Schema] | type[dict[str, Any]] | None = None
    #: How a caller shows who it is; several are alternatives.
    security: Sequence[str] = field(default=())


def _query(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string", **schema}}


def _part(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _refusals(*statuses: str) -> dict[str, Content]:
    return dict.fromkeys(statuses, _ERROR)


_AFTER = _query("after", "The last whole message that the client holds")
_FRAME_REFUSALS = ("400", "403", "404", "409", "413", "429", "503")
_TOKEN = ("token", "tokenInQuery")

#: Every path may get this: the host is not served, or is no host.
_ANY = _refusals("400")

OPERATIONS = (
    Operation("get", "/", "The chat page", {"200": _HTML, **_ANY}),
    Operation(
        "get", "/c/{id}", "The chat page, which opens the chat with this id", {"200": _HTML, **_ANY}, [_part("id")]
    ),
    Operation(
        "get",
        "/static/{version}/{name}",
        "A file of the page",
        {"200": "*/*", **_ANY, **_refusals("404")},
        [_part("version"), _part("name")],
    ),
    Operation("get", "/static/client.js", "The client for other pages", {"302": None, **_ANY}),
    Operation(
        "post",
        "/token",
        "Create a session for a name, given in the body, as a form, or in the query",
        {"200": NewSessionSchema, **_refusals("400", "403", "413", "429", "503")},
        [_query("name", "The name, instead of a body")],
        NameSchema,
    ),
    Operation(
        "delete",
        "/token",
        "End the session, and delete all that is stored of it",
        {"204": None, **_refusals("400", "403", "429", "503")},
        security=_TOKEN,
    ),
    Operation(
        "get",
        "/refresh_token",
        "The session with a page of its history; its time to live begins anew",
        {"200": HistorySchema, **_refusals("400", "403", "429", "503")},
        [
            _query("before", "The page before the message with this id"),
            _query("limit", "Messages of the page, at most", type="integer", minimum=1, maximum=200),
        ],
        security=_TOKEN,
    ),
    Operation(
        "get",
        "/chat",
        "The websocket; see the AsyncAPI document",
        {"101": None, **_refusals("400", "403", "429")},
        [_AFTER],
        security=_TOKEN,
    ),
    Operation(
        "get",
        "/events",
        "The frames of the websocket as server-sent events",
        {"200": "text/event-stream", **_refusals("400", "403", "429", "503")},
        [_AFTER, {**_AFTER, "name": "Last-Event-ID", "in": "header"}],
        security=_TOKEN,
    ),
    Operation(
        "get",
        "/messages",
        "The frames of the websocket since the last poll",
        {"200": PollSchema, **_refusals("400", "403", "429", "503")},
        [
            {**_AFTER, "description": "A message's id, or the `after` of the last answer"},
            _query("wait", "Seconds to wait when there is nothing", type="number", minimum=0, maximum=50),
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
        {"200": _TEXT, **_ANY, **_refusals("401")},
        security=("metricsToken",),
    ),
    Operation("get", "/openapi.json", "This document", {"200": _JSON, **_ANY}),
    Operation("get", "/asyncapi.json", "The contract of the websocket, as AsyncAPI", {"200": _JSON, **_ANY}),
)

_BEARER = {"type": "http", "scheme": "bearer"}
_SECURITY = {
    "token": {**_BEARER, "description": "The token of a session"},
    "tokenInQuery": {"type": "apiKey", "in": "query", "name": "token", "description": "The same in the query"},
    "metricsToken": {**_BEARER, "description": "METRICS_TOKEN; not needed where that is unset"},
}


def openapi(operations: Sequence[Operation] = OPERATIONS) -> dict[str, Any]:
    """The document, as OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    used: list[type[Schema]] = []
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
        contents = (*operation.answers.values(), operation.body)
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


def _answer(status: str, content: Content) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": _SUMMARIES.get(status, "As asked for")}
    if isinstance(content, str):
        answer["content"] = {content: {}}
    elif content is not None:
        answer["content"] = {_JSON: {"schema": reference(content)}}
    if status == "429":
        answer["headers"] = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}}
    return answer
