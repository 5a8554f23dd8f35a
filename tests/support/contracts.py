"""Checks what the test clients receive against the published contracts, and records what occurred."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx2
import requests
import websocket
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator

from chatbot.web.contracts.asyncapi import asyncapi
from chatbot.web.contracts.openapi import openapi
from devtools.harness.chat_client import ChatClient
from tests.support.http_transports import EventClient

#: Which answers come from a web process: all of them have this header.
_OURS = "Permissions-Policy"
_EVENTS = "text/event-stream"
_METHODS = ("get", "post", "put", "patch", "delete")

OPENAPI, ASYNCAPI = openapi(), asyncapi()
#: What gunicorn answers before there is a path: the head of the request is too long.
ANYWHERE = ("414", "431")
#: The operations whose answers a whole run of the suite must see.
PATHS: dict[str, dict[str, Any]] = OPENAPI["paths"]


def _strict(schemas: Mapping[str, Any]) -> dict[str, Any]:
    """The schemas without room for fields that stand in no contract."""
    return {
        name: {**schema, "additionalProperties": False} if "properties" in schema else schema
        for name, schema in schemas.items()
    }


def _validators(document: Mapping[str, Any]) -> dict[str, Validator]:
    schemas = _strict(document["components"]["schemas"])
    root = {"components": {"schemas": schemas}}
    return {
        name: Draft202012Validator({**root, "$ref": f"#/components/schemas/{name}"})
        for name in document["components"]["schemas"]
    }


_ANSWERS, _FRAMES = _validators(OPENAPI), _validators(ASYNCAPI)


def _name(reference: Mapping[str, str]) -> str:
    return reference["$ref"].rpartition("/")[2]


_SENT = {
    name: _name(message["payload"])
    for name, message in ASYNCAPI["components"]["messages"].items()
    if any(each["$ref"].endswith(f"/{name}") for each in ASYNCAPI["operations"]["send"]["messages"])
}
#: The name of a model or a file may hold slashes. A path without parameters goes first.
_PATTERNS = {
    path: re.compile(re.sub(r"\{\w+\}", "[^/]+", path.replace("{name}", ".+")) + r"\Z")
    for path in sorted(PATHS, key=lambda path: "{" in path)
}


def occurrences(where: str, schema: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    """What of a schema occurs in a document: fields that may be absent, and values of those with several."""
    needed = schema.get("required", ())
    for name, declared in schema.get("properties", {}).items():
        if name in document:
            if name not in needed:
                yield f"{where}.{name}"
            if len(declared.get("enum", ())) > 1:
                yield f"{where}.{name}={json.dumps(document[name])}"


def documented() -> set[str]:
    """All that stands in the contracts, by the names of `Contracts.seen`."""
    found = {
        f"{method.upper()} {path} {status}"
        for path in PATHS
        for method in PATHS[path]
        for status in PATHS[path][method]["responses"]
    }
    schemas = ASYNCAPI["components"]["schemas"]
    for frame, name in _SENT.items():
        found.add(frame)
        properties = schemas[name]["properties"]
        found |= {f"{frame}.{each}" for each in properties if each not in schemas[name]["required"]}
        for each, declared in properties.items():
            values = declared.get("enum", ())
            found |= {f"{frame}.{each}={json.dumps(value)}" for value in values if len(values) > 1}
    codes = OPENAPI["components"]["schemas"]["ErrorBody"]["properties"]["code"]["enum"]
    return found | {f"error.code={json.dumps(code)}" for code in codes}


class Answer(NamedTuple):
    """An answer of a web process, from any client."""

    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    text: Callable[[], str]


class Contracts:
    """What occurred, and what stands in no contract."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.problems: list[str] = []

    def take_problems(self) -> list[str]:
        found, self.problems = self.problems, []
        return found

    def check_frame(self, frame: dict[str, Any]) -> None:
        """Checks a frame of the server."""
        kind = frame.get("type")
        name = _SENT.get(str(kind))
        if name is None:
            self.problems.append(f"no contract has the frame {frame!r:.500}")
            return
        self._check(_FRAMES[name], frame, f"the frame {kind}")
        self.seen.add(str(kind))
        self.seen |= set(occurrences(str(kind), ASYNCAPI["components"]["schemas"][name], frame))

    def check_answer(self, answer: Answer) -> None:
        """Checks an answer of a web process."""
        method, path = answer.method.lower(), answer.path
        found = next((known for known, pattern in _PATTERNS.items() if pattern.match(path)), None)
        if method not in _METHODS:
            return
        if found is None or method not in PATHS[found] or str(answer.status) in ANYWHERE:
            if answer.status < 400:
                self.problems.append(f"no contract has {method} {path}")
            else:
                self._check_error(f"{method.upper()} {path} {answer.status}", answer)
            return
        what = f"{method.upper()} {found} {answer.status}"
        described = PATHS[found][method]["responses"].get(str(answer.status))
        if described is None:
            self.problems.append(f"no contract has the answer {what}: {answer.text()[:300]}")
            return
        self.seen.add(what)
        self._check_body(what, described, answer)

    def _check_body(self, what: str, described: Mapping[str, Any], answer: Answer) -> None:
        content = described.get("content", {})
        kind = answer.headers.get("Content-Type", "").partition(";")[0]
        if content and kind not in content and "*/*" not in content:
            self.problems.append(f"{what} is {kind!r}")
        missing = [name for name in described.get("headers", ()) if name not in answer.headers]
        if missing:
            self.problems.append(f"{what} lacks {missing}")
        schema = content.get(kind, {}).get("schema")
        if schema and _name(schema) in ("Error", "OpenAIError"):
            self._check_error(what, answer)
        elif schema:
            document = json.loads(answer.text())
            self._check(_ANSWERS[_name(schema)], document, what)
            for frame in document.get("frames", ()):
                self.check_frame(frame)
            if isinstance(document.get("error"), dict) and "code" in document["error"]:
                self.seen.add(f"error.code={json.dumps(document['error']['code'])}")

    def _check_error(self, what: str, answer: Answer) -> None:
        document = json.loads(answer.text())
        name = "OpenAIError" if answer.path.startswith("/v1/") else "Error"
        self._check(_ANSWERS[name], document, what)
        self.seen.add(f"error.code={json.dumps(document['error']['code'])}")

    def check_handshake(self, url: str, status: int) -> None:
        """Checks the status of a websocket's handshake."""
        path = urlsplit(url).path
        if path not in PATHS:
            # A server of a test's own.
            return
        if str(status) not in PATHS[path]["get"]["responses"]:
            self.problems.append(f"no contract has the answer {status} to a handshake at {path}")
        self.seen.add(f"GET {path} {status}")

    def _check(self, validator: Validator, document: Any, what: str) -> None:
        for error in validator.iter_errors(document):
            self.problems.append(f"{what}: {error.json_path}: {error.message:.300}")


def install(contracts: Contracts) -> None:
    """Lets the test clients check all that they receive."""
    ChatClient.on_frame = contracts.check_frame
    EventClient.on_open = lambda: contracts.seen.add("GET /events 200")
    send: Callable[..., requests.Response] = requests.adapters.HTTPAdapter.send

    def checked(self: Any, request: Any, stream: bool = False, **options: Any) -> requests.Response:
        answer = send(self, request, stream=stream, **options)
        if _OURS in answer.headers and not (stream and answer.headers.get("Transfer-Encoding")):
            path = urlsplit(str(request.url)).path
            contracts.check_answer(
                Answer(str(request.method), path, answer.status_code, answer.headers, lambda: answer.text)
            )
        return answer

    sent: Callable[..., httpx2.Response] = httpx2.Client.send

    def checked_httpx(self: Any, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        answer = sent(self, request, stream=stream, **options)
        if _OURS in answer.headers and (not stream or answer.headers["Content-Type"].startswith(_EVENTS)):
            path = request.url.path
            contracts.check_answer(
                Answer(request.method, path, answer.status_code, answer.headers, lambda: answer.text)
            )
        return answer

    httpx2.Client.send = checked_httpx  # type: ignore[method-assign]

    connect: Callable[..., websocket.WebSocket] = websocket.create_connection

    def opened(url: str, *arguments: Any, **options: Any) -> websocket.WebSocket:
        try:
            connected = connect(url, *arguments, **options)
        except websocket.WebSocketBadStatusException as refused:
            contracts.check_handshake(url, refused.status_code)
            raise
        contracts.check_handshake(url, 101)
        return connected

    websocket.create_connection = opened
    requests.adapters.HTTPAdapter.send = checked  # type: ignore[method-assign,assignment]
