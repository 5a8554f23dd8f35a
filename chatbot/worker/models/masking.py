"""Takes out of a model server's words what belongs in no log: credentials, and what people said."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable
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
        self._secrets = sorted((s for s in found if len(s) >= _SHORTEST), key=len, reverse=True)

    def __call__(self, detail: str, document: dict[str, Any]) -> str:
        """`detail` in one line, masked and cut; `document` is the request that it may quote."""
        said = [text for text in _texts(document) if len(text) >= _SHORTEST]
        detail = " ".join(html.unescape(detail).split())
        for secret in self._secrets:
            detail = detail.replace(secret, MASKED)
        for text in sorted(said, key=len, reverse=True):
            detail = _without(detail, text)
        return detail[:MAX_DETAIL]


def _without(detail: str, text: str) -> str:
    """`detail` without what it quotes of `text`, spelled plainly or as JSON, whole or in long parts."""
    for spelled in {text, " ".join(text.split()), json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}:
        form = _folded(spelled)
        shortest = min(_QUOTED, len(form))
        told, at = _folded(detail), 0
        while at + shortest <= len(told):
            length = shortest
            if told[at : at + length] not in form:
                at += 1
                continue
            while at + length < len(told) and told[at : at + length + 1] in form:
                length += 1
            detail = detail[:at] + MASKED + detail[at + length :]
            told = told[:at] + MASKED + told[at + length :]
            at += len(MASKED)
    return detail


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
