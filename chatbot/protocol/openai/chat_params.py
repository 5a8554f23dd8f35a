"""The names of fields in errors of chat completions: requests are checked under the names of Open Responses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from chatbot.protocol.client_errors import ClientError

#: Patterns of fields, each with the name in chat completions. The first that fits counts.
_NAMES = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"(tools\[\d+\])\.(name|description|parameters)\b", r"\1.function.\2"),
        (r"text\.format\.(name|schema)\b", r"response_format.json_schema.\1"),
        (r"text\.format\b", "response_format"),
        (r"(messages\[\d+\]\.tool_calls\[\d+\])\.call_id\b", r"\1.id"),
        (r"(messages\[\d+\]\.tool_calls\[\d+\])\.(name|arguments)\b", r"\1.function.\2"),
        (r"(messages\[\d+\])\.call_id\b", r"\1.tool_call_id"),
        (r"(messages\[\d+\])\.output\b", r"\1.content"),
        (r"input\b", "messages"),
    )
]


@contextmanager
def chat_names(document: Mapping[str, Any]) -> Iterator[None]:
    """Has a `ClientError` about the body `document` name the fields as chat completions have them."""
    try:
        yield
    except ClientError as error:
        if error.param is None:
            raise
        param = _chat_name(error.param, document)
        message = error.message.replace(error.param, param, 1)
        raise ClientError(
            error.code, message, status=error.status, retry_after=error.retry_after, param=param
        ) from None


def limit_name(document: Mapping[str, Any]) -> str:
    """The name that a client gives to the most tokens of the reply: the older one only where the newer is absent."""
    return "max_completion_tokens" if document.get("max_completion_tokens") is not None else "max_tokens"


def _chat_name(param: str, document: Mapping[str, Any]) -> str:
    if param == "max_output_tokens":
        return limit_name(document)
    for pattern, name in _NAMES:
        if pattern.match(param):
            return pattern.sub(name, param, count=1)
    return param
