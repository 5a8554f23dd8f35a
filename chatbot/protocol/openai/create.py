"""Requests for a reply, as `POST /v1/responses` and the websocket of Open Responses have them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.compact_json import to_json
from chatbot.protocol.documents import is_visible
from chatbot.protocol.openai.items import (
    MAX_ID,
    Item,
    has_images,
    invalid,
    last_text,
    parse_input,
    plain_text,
    unsupported,
)
from chatbot.protocol.openai.options import parse_options

#: Levels of a body, far fewer than RedisJSON's 128; and a number that it still takes.
_MAX_DEPTH, _LARGEST = 64, 1e300
#: Fields of OpenAI's own service for what does not exist here.
_ABSENT = ("conversation", "prompt", "context_management")


@dataclass(frozen=True)
class CreateRequest:
    """A request for a reply, in the form of any of the interfaces."""

    #: The new items of the conversation.
    items: list[Item]
    #: What else the model is asked, see options.py.
    options: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    stream: bool = False
    background: bool = False
    store: bool = True
    previous_response_id: str | None = None
    #: How a client that does not wait for the whole reply gets it: as numbered `events`, in which reasoning, text and
    #: calls follow each other, or as `chunks` in the order of their arrival.
    deltas: Literal["events", "chunks"] = "events"
    #: A digest that the request shares with its repetitions, which get the same reply; b"" if there are none.
    repeats: bytes = b""

    @property
    def text(self) -> str:
        """The text that stands for the request where one is shown."""
        return last_text(self.items)

    def stored(self, further: Mapping[str, Any]) -> dict[str, Any]:
        """What is stored with the human message besides its text; `further` are options of this server's own."""
        extra: dict[str, Any] = {"options": {**self.options, **further}}
        if plain_text(self.items) is None:
            extra["items"] = self.items
        return extra

    @property
    def needs(self) -> str | None:
        """The parameter that needs a chat model which takes more than text; None when every model will do."""
        if self.options.get("tools"):
            return "tools"
        if has_images(self.items) or any(item["type"] != "message" for item in self.items):
            return "input"
        return "text.format" if self.options.get("text", {}).get("format", {}).get("type", "text") != "text" else None


def parse_json(body: bytes | str) -> dict[str, Any]:
    """The JSON object that a body or a frame holds. Raises `ClientError`, also for what RedisJSON cannot store."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ClientError("invalid_json", f"The body {_problem(error)}") from None
    for name, value in document.items() if isinstance(document, dict) else ():
        try:
            _check_storable({name: value})
        except (ValueError, RecursionError) as error:
            # A name that is not a string is not repeated.
            param = name.encode(errors="replace").decode()[:MAX_ID]
            raise ClientError("invalid_json", f"{param} {_problem(error)}", param=param) from None
    if not isinstance(document, dict):
        raise ClientError("invalid_json", "The body must be a JSON object")
    return document


def _problem(error: ValueError | RecursionError) -> str:
    """What is wrong with a body, without a word of it."""
    match error:
        case json.JSONDecodeError():
            return f"is not valid JSON: see line {error.lineno}, column {error.colno}"
        case UnicodeDecodeError():
            return "is not UTF-8"
        case UnicodeEncodeError():
            return "holds half of a surrogate pair, which is no character"
        case RecursionError():
            return f"is nested deeper than {_MAX_DEPTH} levels"
    return f"holds a number beyond {_LARGEST:g}"


def _check_storable(document: dict[str, Any]) -> None:
    """Raises `ValueError` for half a surrogate or a number that is too large, `RecursionError` for deep nesting."""
    level: list[Any] = [document]
    for _ in range(_MAX_DEPTH):
        children: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                children += value.values()
            elif isinstance(value, list):
                children += value
            elif isinstance(value, (int, float)) and not abs(value) < _LARGEST:
                raise ValueError("too large")
        if not children:
            to_json(document).encode()
            return
        level = children
    raise RecursionError


def parse_create(document: Mapping[str, Any]) -> CreateRequest:
    """The body of `POST /v1/responses`. Raises `ClientError`."""
    for name in _ABSENT:
        if document.get(name) is not None:
            raise unsupported(name, f"the field {name}")
    if document.get("generate") is False:
        raise unsupported("generate", "a response that is prepared and not generated")
    previous = document.get("previous_response_id")
    if not isinstance(previous, str | None):
        raise invalid("previous_response_id", "previous_response_id must be a text", "invalid_type")
    model = document.get("model")
    if not isinstance(model, str | None):
        raise invalid("model", "model must be a text", "invalid_type")
    raw = document.get("input")
    items = parse_input([] if raw is None else raw)
    if not items or (isinstance(raw, str) and not is_visible(raw)):
        raise invalid("input", "input is missing or empty", "missing_required_parameter")
    request = CreateRequest(
        items,
        parse_options(document),
        model,
        stream=_flag(document, "stream", default=False),
        background=_flag(document, "background", default=False),
        store=_flag(document, "store", default=True),
        previous_response_id=previous,
    )
    if request.background and not request.store:
        raise invalid("store", "A response in the background must be stored")
    return request


def _flag(document: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = document.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise invalid(name, f"{name} must be true or false", "invalid_type")
    return value
