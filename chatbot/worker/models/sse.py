"""Server-sent events, as text-generation servers send them.

Source: HTML Living Standard, 9.2.6 "Interpreting an event stream".
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from typing import Any

from chatbot.worker.models.errors import PermanentModelError, TransientModelError

#: Bytes of one event: far more than a token needs.
MAX_EVENT = 4 * 1024 * 1024


def events(chunks: Iterable[bytes]) -> Iterator[str]:
    """The data of each event, as soon as its last line has arrived; comments and other fields are ignored.

    Raises `TransientModelError` for bytes that are not UTF-8, `PermanentModelError` for an event beyond `MAX_EVENT`.
    """
    buffer = b""
    data: list[str] = []
    begun = False
    size = 0
    for chunk in chunks:
        buffer += chunk
        if not begun and len(buffer) >= len(BOM_UTF8):
            begun, buffer = True, buffer.removeprefix(BOM_UTF8)
        *lines, buffer = buffer.split(b"\n")
        for raw in lines:
            line = raw.rstrip(b"\r")
            size = size + len(line) if line else 0
            if size > MAX_EVENT:
                break
            if line.startswith(b"data:"):
                value = line[5:]
                data.append(_text(value[1:] if value.startswith(b" ") else value))
            elif not line and data:
                yield "\n".join(data)
                data.clear()
        if size + len(buffer) > MAX_EVENT:
            raise PermanentModelError("too_long", f"an event is longer than {MAX_EVENT} bytes")
    # Some servers omit the last empty line.
    if buffer.startswith(b"data:"):
        data.append(_text(buffer[5:].strip()))
    if data:
        yield "\n".join(data)


def parse(data: str) -> dict[str, Any]:
    """An event's data as a JSON object. Raises `TransientModelError` for anything else."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise TransientModelError("bad_answer", f"an event of {len(data)} characters is not JSON") from None
    if not isinstance(document, dict):
        raise TransientModelError("bad_answer", "an event is not a JSON object")
    return document


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise TransientModelError("bad_answer", "the stream is not UTF-8") from None
