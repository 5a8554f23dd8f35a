"""Takes out of a model server's words what belongs in no log: credentials, and what people said."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

#: Characters of a detail that are kept.
MAX_DETAIL = 300
#: Characters that a detail may share with a request before they count as quoted from it.
_QUOTED = 12
#: Shorter texts than this say nothing, and would blot out words of the server's own.
_SHORTEST = 4

MASKED = "[...]"


def address(url: str) -> str:
    """The URL without user, password, query and fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


class Mask:
    """Servers quote the request in their errors: validators its body, proxies its address or its headers."""

    def __init__(self, url: str, token: str | None) -> None:
        parts = urlsplit(url)
        login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        basic = base64.b64encode(login.encode()).decode() if parts.password else None
        secrets = [token, basic, parts.password, parts.query, *(value for _, value in parse_qsl(parts.query))]
        found = {form for secret in secrets if secret for form in (secret, unquote(secret))}
        self._secrets = [secret for secret in found if len(secret) >= _SHORTEST]

    def __call__(self, detail: str, document: dict[str, Any]) -> str:
        """`detail` in one line, masked and cut; `document` is the request that it may quote."""
        detail = " ".join(html.unescape(detail).split())
        told = _folded(detail)
        # All are found before any is taken out: what is left of one must not hide another.
        hidden = bytearray(len(detail))
        for secret in self._secrets:
            for found in re.finditer(re.escape(secret), detail):
                _hide(hidden, *found.span())
        for form in {_folded(spelled) for text in _texts(document) for spelled in _spellings(text)}:
            if len(form) >= _SHORTEST:
                for start, end in _quotes(told, form):
                    _hide(hidden, start, end)
        shown = (
            MASKED if is_hidden else "".join(character for character, _ in run)
            for is_hidden, run in groupby(zip(detail, hidden, strict=True), key=itemgetter(1))
        )
        return "".join(shown)[:MAX_DETAIL]


def _hide(hidden: bytearray, start: int, end: int) -> None:
    hidden[start:end] = b"\1" * (end - start)


def _spellings(text: str) -> Iterable[str]:
    """Plainly, in one line, and as JSON has it."""
    return text, " ".join(text.split()), json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]


def _quotes(told: str, form: str) -> Iterator[tuple[int, int]]:
    """Where `told` quotes `form`, whole or in long parts."""
    shortest = min(_QUOTED, len(form))
    start = 0
    while start + shortest <= len(told):
        end = start + shortest
        if told[start:end] not in form:
            start += 1
            continue
        while end < len(told) and told[start : end + 1] in form:
            end += 1
        yield start, end
        # Another quote may begin within this one, and then its first part beyond the end is long enough from here on.
        start = end - shortest + 1


def _folded(text: str) -> str:
    """In small letters, as long as before."""
    return "".join(lower if len(lower := c.lower()) == 1 else c for c in text)


def _texts(document: dict[str, Any]) -> Iterable[str]:
    """What a request holds of a conversation: the prompt and each of its lines' texts, or each message."""
    prompt = document.get("inputs") or document.get("prompt")
    if isinstance(prompt, str):
        yield prompt
        for line in prompt.split("\n"):
            yield line.partition(": ")[2].strip() or line.strip()
    for message in document.get("messages", ()):
        yield message["content"]
