"""Finds the error in what a model server sends: servers and proxies wrap it in many ways.

Known shapes: `{"error": "…"}`, `{"error": {"message", "type", "code", "param"}}`, the same in a list (Gemini),
`{"object": "error", …}` (vLLM, Mistral), `{"detail": …}` (FastAPI), `{"errors": […]}`, `{"code", "msg"}`, and a
provider's error as JSON inside of a text (OpenRouter, LiteLLM).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Characters of a server's error text that are searched and stored.
MAX_TEXT = 2000
#: Fields in which servers quote the request.
_QUOTES = frozenset({"input", "inputs", "prompt", "messages", "request", "body", "ctx", "url", "flagged_input"})
#: Fields that hold an answer: a document with one of them is not an error only because it has a `message`.
_ANSWERS = frozenset({"choices", "generated_text", "token", "done", "candidates", "usage", "response"})
#: A name that may be logged: too short and too plain to quote a request.
_IDENTIFIER = re.compile(r"[A-Za-z0-9_.-]{1,64}")
#: How access keys begin and look: some servers repeat them.
_KEY = re.compile(r"^(sk|hf|gsk|xai|nvapi|pplx|bearer)[-_]|^(?=.*[A-Za-z])(?=(.*\d){6}).{20,}", re.IGNORECASE)
#: Fields with types and codes of an error, and those that may stand beside it.
_NAMES = ("type", "__type", "code", "status", "error_code", "status_code", "statusCode")
_OUTER_NAMES = ("code", "type", "status_code", "statusCode")
#: A larger number does not count as seconds.
_MOST_SECONDS = 1e9
#: Levels of a document, and texts in it, that are searched.
_MAX_DEPTH, _MAX_STRINGS = 8, 50


@dataclass(frozen=True)
class ServerError:
    """An error as a server described it."""

    #: The message, on one line.
    text: str
    #: All texts of the error but those that quote the request, on one line each.
    search: str
    #: The error's types and codes that are plain identifiers, as the server wrote them.
    names: tuple[str, ...] = ()
    #: The parameters that the error is about.
    parameters: tuple[str, ...] = ()
    #: An HTTP status in the document, or None.
    status: int | None = None
    #: Seconds until the model is expected to be loaded.
    estimated_time: float | None = None
    details: tuple[Any, ...] = field(default=(), repr=False)


#: Fields of which a document that describes an error has one: most parts of an answer have none.
_MARKS = frozenset(
    {"error", "errors", "object", "type", "success", "base_resp"}
    | {"detail", "message", "msg", "error_msg", "error_message"}
)

#: Names of fields that hold an error.
_FAILURE_NAME = re.compile(
    r"(?<![a-z])(err|errors?|exceptions?|faults?|failures?)(?![a-z])|^err(code|msg|no)$|^error[a-z]{3,11}$"
    r"|(error|exception)$",
    re.IGNORECASE,
)
#: Fields with the name of a state, and how the names of failures end.
_STATES = frozenset({"type", "__type", "status", "state", "event", "result"})
_FAILURE_WORD = re.compile(
    r"(err|error|exception|fail|failed|failure|abort|aborted|cancell?ed|time(d[ _]?)?out|fatal|crashed)$",
    re.IGNORECASE,
)
#: Fields with a status of HTTP or a code of gRPC, the last of these, and fields beside it.
_NUMBERS = frozenset({"status", "code", "statusCode", "status_code", "http_status", "grpc_status"})
_LAST_GRPC_CODE = 16
_GRPC = frozenset({"code", "details", "status", "grpc_status", "grpc_message"})


def server_error(document: Any, *, failed: bool) -> ServerError | None:
    """The error that `document` holds, or None; of a `failed` request everything is an error."""
    document = _first(document)
    fields = document if isinstance(document, dict) else {}
    described = _described(fields)
    if described is None:
        if not failed:
            return None
        described = document
    inner = described if isinstance(described, dict) else fields
    message = _message(described)
    strings = list(_strings(described))
    if isinstance(described, dict) and described is not fields:
        strings += [value for name, value in fields.items() if isinstance(value, str) and name not in _QUOTES]
    names = [
        str(value)
        for value in (fields.get("error_type"), *(inner.get(name) for name in _NAMES))
        if _is_identifier(value)
    ]
    if described is not fields:
        names += [str(fields[name]) for name in _OUTER_NAMES if _is_identifier(fields.get(name))]
    names += [str(value) for value in _nested_names(inner) if _is_identifier(value)]
    return ServerError(
        text=one_line(message)[:MAX_TEXT],
        search="\n".join(one_line(text) for text in strings)[: 2 * MAX_TEXT],
        names=tuple(dict.fromkeys(names)),
        parameters=tuple(_parameters(inner, fields)),
        status=next((int(n) for n in names if n.isdecimal() and 400 <= int(n) < 600), None),
        estimated_time=_seconds(fields.get("estimated_time")),
        details=tuple(_dicts(described)),
    )


def _seconds(value: Any) -> float | None:
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _MOST_SECONDS
    return float(value) if known else None


def one_line(text: str) -> str:
    """The text with every run of white space as one space."""
    return " ".join(text.split())


def _first(document: Any) -> Any:
    """The error's document where servers put it into a list."""
    if isinstance(document, list):
        return next((d for d in document if isinstance(d, dict) and _described(d) is not None), document)
    return document


def _described(fields: dict[str, Any]) -> Any:
    """The part of a document that describes an error, or None."""
    if _MARKS.isdisjoint(fields):
        return None
    for name in ("error", "errors"):
        value = fields.get(name)
        if value and not (isinstance(value, dict) and not any(value.values())):
            # Some servers only mark the document as an error.
            return fields if value is True else value
    if fields.get("object") == "error" or fields.get("type") == "error" or fields.get("success") is False:
        return fields
    status = fields.get("base_resp")
    if isinstance(status, dict) and status.get("status_code"):
        # MiniMax writes this also where all is well, with the code 0.
        return {"code": status["status_code"], "message": status.get("status_msg") or "no message"}
    if fields.get("choices") or any(fields[name] not in (None, [], {}) for name in _ANSWERS.intersection(fields)):
        return None
    return fields if any(fields.get(n) for n in ("detail", "message", "msg", "error_msg", "error_message")) else None


def describes_failure(fields: Mapping[str, Any]) -> bool:
    """Whether an object that holds nothing of an answer describes a failure, in no server's known form.

    For example `{"status": 500, "title": …}` (RFC 9457), `{"fault": …}` (Apigee), `{"__type": "…Exception"}` and
    `{"internalServerException": …}` (AWS), `{"code": 14, "details": []}` (gRPC).
    """
    for name, value in fields.items():
        if _FAILURE_NAME.search(name) and value not in (None, False, 0, "", "0", [], {}):
            return True
        if (name == "Message" and value) or (name in ("ok", "success") and value is False):
            return True
        if isinstance(value, dict) and (value.get("error") or (name == "status" and value.get("code"))):
            return True
        if name in _STATES and isinstance(value, str) and _FAILURE_WORD.search(value):
            return True
        number = int(value) if name in _NUMBERS and re.fullmatch(r"[0-9]{1,3}", str(value)) else 0
        if 400 <= number < 600 or (0 < number <= _LAST_GRPC_CODE and fields.keys() <= _GRPC):
            return True
    return False


def _message(described: Any) -> str:
    for _ in range(_MAX_DEPTH):
        if isinstance(described, list) and len(described) == 1:
            described = described[0]
        if not isinstance(described, dict):
            break
        names = ("message", "detail", "msg", "error_msg", "error_message", "error", "title", "reason")
        described = next((described[name] for name in names if described.get(name)), json.dumps(described))
    return described if isinstance(described, str) else json.dumps(described, ensure_ascii=False)


def _strings(value: Any, depth: int = 0) -> Iterator[str]:
    """The texts in an error, also in JSON that stands in a text."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, str):
        yield value
        inner = _embedded(value)
        if inner is not None:
            yield from _strings(inner, depth + 1)
    elif isinstance(value, dict):
        for name, item in list(value.items())[:_MAX_STRINGS]:
            if name not in _QUOTES:
                yield from _strings(item, depth + 1)
    elif isinstance(value, list):
        for item in value[:_MAX_STRINGS]:
            yield from _strings(item, depth + 1)


def _embedded(text: str) -> Any:
    start = text.find("{")
    if start < 0:
        return None
    try:
        return json.JSONDecoder(strict=False).raw_decode(text[start:])[0]
    except (ValueError, RecursionError):
        return None


def _dicts(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, str):
        value = _embedded(value)
    if isinstance(value, dict):
        yield value
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in list(items)[:_MAX_STRINGS]:
        yield from _dicts(item, depth + 1)


def _nested_names(inner: dict[str, Any]) -> Iterator[Any]:
    """Codes of the errors inside of an error (Azure, Gemini, OpenRouter)."""
    for inside in list(_dicts(inner))[1:]:
        yield from (inside.get(name) for name in ("code", "type", "reason", "status", "error_type"))


def _parameters(*documents: dict[str, Any]) -> Iterator[str]:
    """Names of parameters: `param` as OpenAI has it, `loc` as pydantic has it."""
    for document in documents:
        for inside in _dicts(document):
            for value in (inside.get("param"), inside.get("loc")):
                name = value[-1] if isinstance(value, list) and value else value
                if isinstance(name, str) and name:
                    yield name.rpartition(".")[2]


def _is_identifier(name: Any) -> bool:
    if not isinstance(name, (str, int)) or isinstance(name, bool):
        return False
    return _IDENTIFIER.fullmatch(str(name)) is not None and _KEY.search(str(name)) is None
