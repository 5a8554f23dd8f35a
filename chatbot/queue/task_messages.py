"""Checks of what the broker delivers: anybody with access to Redis, or another version, may have written it."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from types import NoneType
from typing import Any

from kombu.message import Message
from kombu.utils.json import loads

#: The values of a task's time limits: this project sets none.
_NO_TIME_LIMIT = (None, [None, None], (None, None))


def parsed(element: bytes | str) -> Any:
    """An element of a queue as kombu parses it. Raises `ValueError` for one that kombu could not parse."""
    try:
        text = element.decode() if isinstance(element, bytes) else element
        # kombu's decoders concern objects with a key `__type__` alone; without them Python's parser takes a fifth.
        return (loads if "__type__" in text or "\\u" in text else json.loads)(text)
    except Exception as error:
        # kombu's decoders of dates, numbers and ids raise what they like.
        raise ValueError("not JSON as kombu writes it") from error


def is_json(element: bytes | str) -> bool:
    """Whether kombu can parse an element of a queue."""
    try:
        parsed(element)
    except ValueError:
        return False
    return True


def is_message(document: Any) -> bool:
    """Whether a parsed element is a message as kombu's Redis transport writes it, with a body in JSON."""
    if not isinstance(document, dict):
        return False
    properties, headers, body = document.get("properties"), document.get("headers"), document.get("body")
    if not (isinstance(properties, dict) and isinstance(headers, dict) and isinstance(body, str)):
        return False
    info = properties.get("delivery_info")
    return (
        document.get("content-type") == "application/json"
        and document.get("content-encoding") == "utf-8"
        and not headers.get("compression")
        and properties.get("body_encoding") == "base64"
        and isinstance(properties.get("delivery_tag"), str)
        and isinstance(info, dict)
        and isinstance(info.get("exchange"), str)
        and isinstance(info.get("routing_key"), str)
        and _is_encoded_json(body)
    )


def _is_encoded_json(body: str) -> bool:
    try:
        return is_json(base64.b64decode(body, validate=True))
    except ValueError:
        return False


def is_call(message: Message) -> bool:
    """Whether a message calls a task with texts as positional arguments, and asks for nothing else of Celery.

    Celery itself logs a wrong number of arguments, and goes on.

    Celery's message protocol, version 2: the body holds arguments, keyword arguments, and tasks to call afterwards.
    """
    headers, body = message.headers, message.payload
    if not (isinstance(body, list) and [type(part) for part in body] == [list, dict, dict]):
        return False
    arguments, keywords, then = body
    return (
        all(isinstance(value, str) for value in arguments)
        and not keywords
        and not any(then.values())
        and isinstance(headers.get("id"), str)
        # Celery counts tasks by this name.
        and isinstance(headers.get("shadow"), (str, NoneType))
        and headers.get("eta") is None
        and headers.get("timelimit") in _NO_TIME_LIMIT
        and headers.get("retries") in (None, 0)
        and not headers.get("stamped_headers")
        and _is_date(headers.get("expires"))
    )


def _is_date(value: Any) -> bool:
    if value is None:
        return True
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return True
