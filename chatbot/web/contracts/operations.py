"""What the OpenAPI document says of one method of a path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from marshmallow import Schema

from chatbot.protocol.answer_schemas import ErrorSchema

#: What an answer holds: a schema for JSON, a media type, nothing, or one of several.
Content = type[Schema] | str
Answer = Content | None | tuple[Content, ...]


@dataclass(frozen=True)
class Operation:
    """A method of a path, and its answers by status."""

    method: str
    path: str
    summary: str
    answers: Mapping[str, Answer]
    parameters: Sequence[dict[str, Any]] = ()
    #: `dict` for a frame of the websocket, or text as typed.
    body: type[Schema] | type[dict[str, Any]] | None = None
    #: How a caller shows who it is; several are alternatives.
    security: Sequence[str] = field(default=())


def query(name: str, description: str, **schema: Any) -> dict[str, Any]:
    """A parameter in the query."""
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string", **schema}}


def part(name: str) -> dict[str, Any]:
    """A part of the path."""
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def refusals(*statuses: str, schema: type[Schema] = ErrorSchema) -> dict[str, Answer]:
    """The answers with these statuses, each an error."""
    return dict.fromkeys(statuses, schema)
