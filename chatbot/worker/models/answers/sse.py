"""Server-sent events, as text-generation servers send them.

Source: HTML Living Standard, 9.2.6 "Interpreting an event stream".
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from chatbot.worker.models.errors import PermanentModelError

#: Bytes of one event: far more than a token needs.
MAX_EVENT = 4 * 1024 * 1024
#: An end of line; a CR at the end of what has arrived may be half of one.
_END_OF_LINE = re.compile(rb"\r\n|\n|\r(?!\Z)")
_FIELDS = (b"data", b"event", b"id", b"retry", b"")


class Event(NamedTuple):
    """One event; `stray` holds a line that is not a field of the format, as servers write when they fail."""

    name: str
    data: str
    stray: str = ""


def events(chunks: Iterable[bytes]) -> Iterator[Event | None]:
    """The events as soon as their last line has arrived; those without data and name, and comments, are left out.
    After those of a chunk comes None.

    Bytes that are not UTF-8 become U+FFFD. Raises `PermanentModelError` for an event beyond `MAX_EVENT`.
    """
    parser = _Parser()
    buffer = b""
    begun = False
    for chunk in chunks:
        if begun and not buffer and parser.idle and (data := _lone_data(chunk)) is not None:
            yield Event("", data)
            yield None
            continue
        buffer += chunk
        if not begun and not BOM_UTF8.startswith(buffer):
            begun, buffer = True, buffer.removeprefix(BOM_UTF8)
        if not begun:
            continue
        *lines, buffer = _END_OF_LINE.split(buffer) if b"\r" in buffer else buffer.split(b"\n")
        for line in lines:
            if (event := parser.feed(line)) is not None:
                yield event
        yield None
        if parser.size + len(buffer) > MAX_EVENT:
            raise PermanentModelError("too_long", f"an event is longer than {MAX_EVENT} bytes")
    # Some servers omit the last empty line.
    for line in (buffer.removesuffix(b"\r"), b""):
        if (event := parser.feed(line)) is not None:
            yield event


def _lone_data(chunk: bytes) -> str | None:
    """The data of a chunk that is one event of one line, as most tokens arrive; None for another chunk."""
    if chunk[:5] != b"data:" or chunk[-2:] != b"\n\n" or chunk.count(b"\n") != 2 or b"\r" in chunk:
        return None
    return chunk[5:-2].removeprefix(b" ").decode("utf-8", "replace") if len(chunk) <= MAX_EVENT else None


class _Parser:
    def __init__(self) -> None:
        self._data: list[str] = []
        self._name = ""
        #: Bytes of the event so far.
        self.size = 0

    @property
    def idle(self) -> bool:
        """Whether no event has begun."""
        return not (self._data or self._name or self.size)

    def feed(self, line: bytes) -> Event | None:
        if not line:
            event = Event(self._name, "\n".join(self._data)) if self._data or self._name else None
            self._data, self._name, self.size = [], "", 0
            return event
        self.size += len(line)
        if self.size > MAX_EVENT:
            raise PermanentModelError("too_long", f"an event is longer than {MAX_EVENT} bytes")
        field, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode("utf-8", "replace")
        if field == b"data":
            self._data.append(text)
        elif field == b"event":
            self._name = text.strip()
        elif field.strip() not in _FIELDS:
            return Event("", "", stray=line.decode("utf-8", "replace"))
        return None
