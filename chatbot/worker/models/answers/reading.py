"""Reads the answer of a model server, in all protocols: an event stream, lines of JSON, or one JSON document.

The body's first bytes decide what it is, as servers and proxies label bodies wrongly. An answer is read to its end, as
some servers give a finish reason with every chunk; the last one counts.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import requests
import urllib3

from chatbot.worker.models.answers.json_documents import json_documents, loads, not_json, objects
from chatbot.worker.models.answers.parts import Part, is_neutral, part_of, plain_text
from chatbot.worker.models.answers.piece import Piece, Pieces
from chatbot.worker.models.answers.response_events import EVENT, begins_again
from chatbot.worker.models.answers.sse import events
from chatbot.worker.models.answers.tool_calls import ToolCalls
from chatbot.worker.models.answers.usage import Usage, usage_of
from chatbot.worker.models.errors import ContentRefused, ModelError, TransientModelError
from chatbot.worker.models.http.response import ModelResponse
from chatbot.worker.models.server_errors.http_errors import raise_for_error

#: Seconds of silence after a finish reason that came alone: what else comes, comes with it.
_AFTER_REASON = 5.0
#: Names of events that hold a part of the answer; others (`ping`, statistics) are passed over.
_NAMES = frozenset(
    {"", "message", "data", "chunk", "delta", "token", "completion", "generation", "text_completion", "add"}
    | {"chat.completion.chunk", "completion.chunk"}
)
_DONE = re.compile(r'"?\[?done\]?"?', re.IGNORECASE)
_KEEP_ALIVE = re.compile(r"\W{0,9}(ping|pong|keep[-_ ]?alive|heartbeat|processing|null)?\W{0,9}", re.IGNORECASE)
#: Names of events that report a failure, and of those that announce the end.
_FAILED = re.compile(r"error|exception|fail|abort|timeout|crash|^err$", re.IGNORECASE)
_ENDS = frozenset({"done", "end", "complete", "completed", "close", "finish", "finished", "eos"})
_END = re.compile(r"\W?(end|eos|eof|stop)\W?", re.IGNORECASE)
#: The first bytes of an event stream.
_STREAM = re.compile(rb"(data|event|id|retry)?:")


def read_reply(
    response: ModelResponse, *, prompt: str = "", max_tokens: int | None = None, names_end: bool = False
) -> Pieces:
    """The reply's chunks; the last one has the finish reason, the function calls, and the usage if it is reported.

    `prompt` is removed where the server repeats it. A reply of `max_tokens` tokens whose end has no reason ended by its
    length. `names_end`: a stream of this protocol says where it ends.

    Raises `ModelError` and what the connection raises.
    """
    reply, body = _Reply(prompt), _Body(response)
    try:
        for piece in _pieces(reply, body, streams_calls=response.streams_calls):
            said = piece.text or piece.reasoning or piece.calls
            if said:
                response.begun()
            # Before the chunk is passed on: who takes it may wait for the next one.
            response.quiet(_AFTER_REASON if reply.ended else None)
            if said:
                yield piece
    except ContentRefused:
        if not reply.texts:
            raise
        reply.reason = "content_filter"
    except ModelError:
        # What follows the end is not part of the reply.
        if not reply.ended:
            raise
    except (urllib3.exceptions.HTTPError, requests.RequestException, OSError):
        response.check()
        if not reply.ended:
            raise
    _check_end(reply, body, framed=response.framed and not names_end)
    by_length = max_tokens is not None and reply.tokens >= max_tokens
    yield Piece("", reply.reason or ("length" if by_length else "stop"), usage=reply.usage, calls=reply.calls.items())


def _pieces(reply: _Reply, body: _Body, *, streams_calls: bool) -> Iterator[Piece]:
    """The chunks of the body, those that arrived together as one: each costs as much as a token that comes alone."""
    held: Piece | None = None
    try:
        for document in body.documents():
            if document is not None and reply.last and begins_again(document):
                # Some proxies ask again behind the end of an answer.
                break
            piece = None if document is None else reply.read(document, streams_calls=streams_calls)
            if document is not None and piece is None and not is_neutral(document):
                body.unknown = True
            if held is not None and (document is None or (piece and (held.reasoning or piece.reasoning))):
                yield held
                held = None
            if piece is not None:
                held = piece if held is None else _joined(held, piece)
    except Exception:
        if held is not None:
            yield held
        raise
    if held is not None:
        yield held


def _joined(held: Piece, piece: Piece) -> Piece:
    chunks = held.chunks + bool(piece.text or piece.calls)
    return Piece(held.text + piece.text, calls=piece.calls or held.calls, chunks=chunks)


def _check_end(reply: _Reply, body: _Body, *, framed: bool) -> None:
    """Raises `TransientModelError` unless the reply is known to be whole. `framed`: the end of the body showed."""
    if reply.reason is None and not reply.last:
        if not (reply.texts or reply.thought or reply.calls):
            raise TransientModelError("bad_answer", "the answer holds no text")
        alone = body.documents_read == 1 and reply.whole
        if body.stray or not (body.done or alone or (framed and not body.unknown)):
            raise TransientModelError("cut_off", f"the stream ended after {reply.texts} chunks, without its end")


class _Reply:
    """What has arrived of a reply."""

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt
        self.texts = self.tokens = 0
        self.thought = False
        #: Whether a document held all of the reply.
        self.whole = False
        self.reason: str | None = None
        self.last = False
        self.usage: Usage | None = None
        self.calls = ToolCalls()
        #: The text so far, if only whole texts have arrived.
        self._wholes: str | None = ""
        #: Whether reasons cannot be relied on: one came with the first text, or was followed by more text.
        self._early = False

    @property
    def ended(self) -> bool:
        """Whether the reply's end has been read, so that what the connection does now is of no concern."""
        return (self.reason is not None or self.last) and not self._early

    def read(self, document: Mapping[str, Any], *, streams_calls: bool) -> Piece | None:
        """The chunk in one object of the answer, or None for an object without one. Raises `ModelError`."""
        text = plain_text(document) if self.texts and self._wholes is None and not self.ended else None
        if text:
            self.texts += 1
            self.tokens += "token" in document
            return Piece(text)
        self.usage = usage_of(document, self.usage)
        called = self.calls.read(document) and streams_calls
        part = part_of(document)
        if part is None:
            return None
        piece = self._add(part)
        return piece._replace(calls=self.calls.items(so_far=True)) if called else piece

    def _add(self, part: Part) -> Piece:
        text = part.text
        if not self.texts and self._prompt:
            text = text.removeprefix(self._prompt)
        if part.whole:
            text = self._unseen(text)
        elif text:
            # Whole texts from now on are summaries.
            self._wholes = None
        ending = part.reason is not None or part.last
        if not part.whole:
            first = bool(text) and not self.texts
            self._early = self._early or (bool(text) and (self.reason is not None or self.last)) or (ending and first)
        self.texts += bool(text)
        self.whole = self.whole or part.whole
        self.tokens += part.tokens
        self.thought = self.thought or bool(part.reasoning)
        self.reason = part.reason or self.reason
        self.last = self.last or part.last
        return Piece(text, reasoning=part.reasoning)

    def _unseen(self, text: str) -> str:
        """What of a whole text is new: nothing after streamed text, or at the end of whole texts.

        Some servers repeat with each event all that was generated so far, others give only what is new."""
        if self._wholes is None:
            return ""
        if text.startswith(self._wholes):
            new = text.removeprefix(self._wholes)
        else:
            new = "" if self.reason is not None or self.last else text
        self._wholes += new
        return new


class _Body:
    """The JSON objects in a body, whatever its form."""

    def __init__(self, response: ModelResponse) -> None:
        self._response = response
        #: Whether the end of an event stream was announced.
        self.done = False
        #: JSON documents read; one that holds all of a reply shows by itself that nothing is missing.
        self.documents_read = 0
        #: Whether something stood in an event stream that does not belong there.
        self.stray = False
        #: Whether an object came that no server is known to send within a whole answer.
        self.unknown = False

    def documents(self) -> Iterator[dict[str, Any] | None]:
        """The objects; of an event stream None after those that arrived together."""
        chunks = self._response.chunks()
        start = b""
        for chunk in chunks:
            start += chunk
            if start.strip() and not BOM_UTF8.startswith(start):
                break
        head = start.removeprefix(BOM_UTF8).lstrip()
        if not head:
            raise TransientModelError("bad_answer", "the answer is empty")
        rest = chain([start], chunks)
        if head[:1] in (b"{", b"["):
            return self._json(rest)
        if _STREAM.match(head) or (self._response.content_type == "text/event-stream" and head[:1] != b"<"):
            return self._events(rest)
        raise not_json(b"".join(rest))

    def _json(self, chunks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
        for document in json_documents(chunks):
            self.documents_read += 1
            yield from objects(document)

    def _events(self, chunks: Iterable[bytes]) -> Iterator[dict[str, Any] | None]:
        for event in events(chunks):
            if event is None:
                self._response.all_read = True
                yield None
                continue
            name, data = event.name.lower(), event.data.strip()
            if data[:1] == "{" and name in _NAMES:
                yield from _parsed(data)
            elif data[:1] == "{" and name.startswith(EVENT):
                for document in _parsed(data):
                    # Some servers name the event only outside of its data.
                    document.setdefault("type", name)
                    yield document
            elif event.stray:
                # A server that fails may write its error without the format, or under a field of its own (llama.cpp).
                self.stray = True
                before, brace, _ = event.stray.partition("{")
                if brace:
                    yield from _parsed(event.stray.removeprefix(before))
            elif data and _DONE.fullmatch(data):
                self.done = True
                return
            elif _FAILED.search(name):
                raise_for_error(loads(data) or data or "an event of the name error", failed=True)
            elif name in _ENDS or _END.fullmatch(data):
                self.done = True
            elif name in _NAMES and not _KEEP_ALIVE.fullmatch(data):
                found = list(_parsed(data))
                self.stray = self.stray or not found
                yield from found


def _parsed(data: str) -> Iterable[dict[str, Any]]:
    """The objects in an event's data. Raises `ModelError` for what is not JSON."""
    document = loads(data)
    return (document,) if type(document) is dict else _unusual(document, data)


def _unusual(document: Any, data: str) -> Iterator[dict[str, Any]]:
    """The objects of a list, or of data that is not a JSON document."""
    if document is None:
        # Some servers leave out the empty line between events, some repeat the field's name.
        lines = [line.strip().removeprefix("data:") for line in data.splitlines() if line.strip()]
        if len(lines) > 1 or lines[0] != data.strip():
            for line in lines:
                yield from _parsed(line)
            return
        if data.lstrip()[:1] not in ("{", "["):
            raise_for_error(data, failed=True)
        raise TransientModelError("bad_answer", f"an event of {len(data)} characters is not JSON")
    yield from objects(document)
