"""marshmallow fields that turn a setting's text into its value, or say what is wrong with it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import limits
from marshmallow import ValidationError, fields, validate

Rates = tuple[limits.RateLimitItem, ...]

_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}\Z")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]+\Z")
#: Those of a request to a model server.
_HEADERS_IN_USE = {
    *("accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "host"),
    *("expect", "te", "transfer-encoding", "upgrade", "user-agent"),
}


class Parsed(fields.Field[Any]):
    """A field read by a function, whose `ValueError` becomes the message."""

    def __init__(self, read: Callable[[str], Any]) -> None:
        super().__init__()
        self._read = read

    def _deserialize(self, value: str, attr: str | None, data: Any, **kwargs: Any) -> Any:
        try:
            return self._read(value)
        except ValueError as error:
            raise ValidationError(str(error)) from None


def text() -> fields.Field[Any]:
    return fields.String()


def credential() -> fields.Field[Any]:
    """A text that is sent in an HTTP header. No error repeats it."""

    def read(raw: str) -> str:
        if not _HEADER_VALUE.match(raw):
            raise ValueError("must be one line of plain ASCII characters without spaces: copy it again")
        return raw

    return Parsed(read)


def login() -> fields.Field[Any]:
    """`user:password`, or several of them, separated by commas. No error repeats it."""

    def read(raw: str) -> str:
        if not all(user and password for user, _, password in (part.partition(":") for part in raw.split(","))):
            raise ValueError("must be user:password")
        if not raw.isprintable():
            raise ValueError("must be one line, without control characters")
        return raw

    return Parsed(read)


def callable_name() -> fields.Field[Any]:
    """`module:attribute`, both perhaps with dots."""

    def read(raw: str) -> str:
        module, colon, attribute = raw.partition(":")
        if not colon or not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
            raise ValueError(f"must be a module and a function in it, such as bot:reply or my.bot:reply, not {raw!r}")
        return raw

    return Parsed(read)


def integer(low: int, high: int) -> fields.Field[Any]:
    """A whole number from `low` to `high`."""
    return fields.Integer(
        error_messages={"invalid": "must be a whole number, not {input!r}"},
        validate=validate.Range(low, high, error="must be from {min} to {max}, not {input}"),
    )


def fraction(low: float, high: float) -> fields.Field[Any]:
    """A number from `low` to `high`."""

    def read(raw: str) -> float:
        value = _number(raw, f"must be a number, not {raw!r}")
        if not low <= value <= high:
            raise ValueError(f"must be from {low:g} to {high:g}, not {raw}")
        return value

    return Parsed(read)


def seconds(*, or_zero: bool = False) -> fields.Field[Any]:
    """A duration above 0, or 0 as well with `or_zero`."""

    def read(raw: str) -> float:
        value = _number(raw, f"must be a number of seconds, not {raw!r}")
        if not 0 < value < 1e7 and not (or_zero and value == 0):
            raise ValueError(f"must be more than 0 seconds and below 10 million, not {raw}")
        return value

    return Parsed(read)


def boolean() -> fields.Field[Any]:
    return fields.Boolean(
        truthy={"true", "1", "yes", "on"},
        falsy={"false", "0", "no", "off"},
        error_messages={"invalid": "must be true or false, not {input!r}"},
        pre_load=str.lower,
    )


def choice(*choices: str) -> fields.Field[Any]:
    """One of `choices`, in any case."""

    def read(raw: str) -> str:
        found = next((choice for choice in choices if choice.lower() == raw.lower()), None)
        if found is None:
            raise ValueError(f"must be one of {', '.join(choices)}, not {raw!r}")
        return found

    return Parsed(read)


def header() -> fields.Field[Any]:
    """The name of an HTTP header; `off` for none."""

    def read(raw: str) -> str:
        if not _HEADER.match(raw) or raw.lower() in _HEADERS_IN_USE:
            raise ValueError(f"must be the name of a header that has no other use, or off, not {raw!r}")
        return "" if raw.lower() == "off" else raw

    return Parsed(read)


def rates() -> fields.Field[Any]:
    """One rate or several, in the notation of the package `limits`."""

    def read(raw: str) -> Rates:
        try:
            found = tuple(limits.parse_many(raw))
        except ValueError:
            found = ()
        if not found or any(rate.amount < 1 or rate.get_expiry() < 1 for rate in found):
            raise ValueError(f"must be a rate such as 30/minute, or several such as 5/second;100/hour, not {raw!r}")
        return found

    return Parsed(read)


def certificate() -> fields.Field[Any]:
    """One path, or two. Only the worker needs the files, and checks them."""

    def read(raw: str) -> tuple[str, ...]:
        paths = tuple(listed(raw))
        if not 1 <= len(paths) <= 2:
            raise ValueError("must be one path, or those of a certificate and its key, separated by a comma")
        return paths

    return Parsed(read)


def listed(raw: str) -> list[str]:
    return [part.strip() for part in raw.split(",") if part.strip()]


def _number(raw: str, problem: str) -> float:
    try:
        value = float(raw)
    except ValueError:
        raise ValueError(problem) from None
    if not math.isfinite(value):
        raise ValueError(problem)
    return value
