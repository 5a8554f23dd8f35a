"""JSON in the bodies of model servers: one document, several one after the other, or a document a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from chatbot.worker.models.errors import PermanentModelError, TransientModelError
from chatbot.worker.models.server_errors.documents import MAX_TEXT, one_line

#: Bytes of a document that is not streamed: far more than a reply needs.
MAX_BODY = 8 * 1024 * 1024
#: Documents read in one go, while other replies wait: far more than a reply has tokens.
_MAX_DOCUMENTS = 20_000
_SPACE = re.compile(r"\s*")
#: Control characters in texts are accepted.
_DECODER = json.JSONDecoder(strict=False)


def json_documents(chunks: Iterable[bytes]) -> Iterator[Any]:
    """The documents: those of lines as soon as a line has arrived, others at the end.

    Raises `ModelError` for other text.
    """
    body = bytearray()
    # Known once the first line has arrived: a document over several lines has to be read whole.
    in_lines: bool | None = None
    for chunk in chunks:
        body += chunk
        if len(body) > MAX_BODY:
            raise PermanentModelError("too_long", f"the answer is longer than {MAX_BODY} bytes")
        if in_lines is False or b"\n" not in chunk:
            continue
        *lines, rest = body.split(b"\n")
        for number, line in enumerate(lines):
            if not line.strip():
                continue
            document = loads(line.decode("utf-8-sig", "replace"))
            if document is None:
                in_lines, rest = False, bytearray(b"\n").join((*lines[number:], rest))
                break
            in_lines = True
            yield document
        body = rest
    yield from _in_a_row(bytes(body))


def _in_a_row(body: bytes) -> Iterator[Any]:
    text = body.decode("utf-8-sig", "replace").strip()
    at = read = 0
    while at < len(text):
        read += 1
        try:
            document, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            raise not_json(body) from None
        if read > _MAX_DOCUMENTS:
            raise PermanentModelError("too_long", f"the answer holds more than {_MAX_DOCUMENTS} documents")
        yield document
        at = _SPACE.match(text, end).end()  # type: ignore[union-attr]


def objects(document: Any) -> Iterator[dict[str, Any]]:
    """The objects in a document: itself, or those of a list."""
    for item in document if isinstance(document, list) else [document]:
        if isinstance(item, dict):
            yield item
        elif isinstance(item, list):
            # Some servers answer a list of requests.
            yield from (inner for inner in item if isinstance(inner, dict))


def loads(text: str) -> Any:
    """The document, or None for what is not JSON."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def not_json(body: bytes) -> TransientModelError:
    """The error for a body that is not JSON."""
    what = "HTML" if body.lstrip().startswith(b"<") else "not JSON"
    error = TransientModelError("bad_answer", f"the answer is {what}, {len(body)} bytes")
    error.server_text = one_line(body.decode("utf-8", "replace"))[:MAX_TEXT]
    return error
