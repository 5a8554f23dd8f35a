"""Sends one answer: a proper one or the ordered fault, at the ordered pace."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from typing import Any, Protocol

import gevent  # type: ignore[import-untyped, unused-ignore]
import gevent.event  # type: ignore[import-untyped, unused-ignore]

from devtools.fake_model.faults import ERRORS, IN_STREAM, JSON, LOADING, PAGES, SSE, WHOLE, RefusedError, as_object
from devtools.fake_model.http_connection import LAST_CHUNK, Connection, chunk
from devtools.fake_model.orders import Order, continued, fillers
from devtools.fake_model.protocols import UNLIMITED, OpenAIRequest, TextGenerationRequest, to_bytes
from devtools.fake_model.state import FAULT, Controls, Record

BURST = 32  # tokens sent in a row without an interval before other streams continue
HELD_INTERVAL = 0.005  # seconds between two checks whether a reply may go on
ENDLESS_INTERVAL = 0.005  # seconds: a faster endless stream would take a whole core
NO_PREFILL = "This model does not support assistant message prefill. The conversation must end with a user message."
STREAM = {"content-type": SSE, "cache-control": "no-cache", "x-accel-buffering": "no"}


class Bookkeeping(Protocol):
    settings: Controls
    model: str

    def sent(self, record: Record, tokens: int) -> None: ...
    def end(self, record: Record | None, outcome: str) -> None: ...
    def held(self, record: Record) -> bool: ...
    def changed(self) -> None: ...


class Answer:
    """The answer to one request."""

    def __init__(
        self,
        server: Bookkeeping,
        connection: Connection,
        record: Record,
        ask: TextGenerationRequest | OpenAIRequest,
        order: Order,
    ) -> None:
        self.server, self.connection, self.record, self.ask = server, connection, record, ask
        self.settings, self.fault = server.settings, record.fault
        self.first = order.numbers.get("first", self.settings.first) / 1000
        self.interval = order.numbers.get("interval", self.settings.interval) / 1000
        self.tokens: Iterable[str] = order.reply(self.settings.tokens)
        if self.settings.continuing == "yes":
            self.tokens = continued(self.tokens, ask.partial)
        elif ask.chat and ask.partial:
            if self.settings.continuing == "refused":
                raise RefusedError(400, NO_PREFILL, "invalid_request_error")
            ask.partial = ""

    def give(self) -> None:
        ask, fault = self.ask, self.fault
        if isinstance(ask, OpenAIRequest):
            ask.lax = fault == "lax"
            if fault == "strict" and (unknown := ask.unknown):
                raise RefusedError(422, f"Extra inputs are not permitted: {', '.join(unknown)}")
        if fault in WHOLE:
            return self.fail(fault)
        if fault == "silent" or (fault == "endless" and not ask.stream):
            self.never()
        if fault == "not_utf8":
            self.tokens = itertools.chain(["\udcff"], self.tokens)
        if fault in IN_STREAM and ask.stream:  # such a stream must not end by itself
            self.tokens = itertools.chain(self.tokens, fillers())
            ask.limit, ask.stops = UNLIMITED, ()
        return self.stream() if ask.stream else self.whole()

    def fail(self, fault: str) -> None:
        headers: dict[str, Any] = {}
        body: dict[str, Any]
        if fault == "redirect":
            return self.connection.answer(307, b"", "text/plain", location=self.settings.to)
        if fault in PAGES:
            status, kind, text = PAGES[fault]
            return self.connection.answer(status, text.encode(), kind)
        if fault in LOADING:
            status, body = LOADING[fault], {"error": f"Model {self.server.model} is currently loading"}
            if fault != "loading_no_estimate":
                body["estimated_time"] = self.settings.estimated_time
        else:
            status, body = ERRORS[fault]
        if fault == "rate_limited":
            headers["retry_after"] = f"{self.settings.retry_after:g}"
        shaped = as_object(status, body) if self.ask.openai else body
        return self.connection.answer(status, to_bytes(shaped), **headers)

    def whole(self) -> None:
        count, value = self.ask.whole(self.tokens)
        if (delay := self.first + self.interval * max(0, count - 1)) > 0:
            gevent.sleep(delay)
        if self.fault == "error_in_stream":
            return self.fail("failed_dependency")
        body = to_bytes(value)
        half = body[: len(body) // 2]
        if self.fault in ("cut_stream", "silent_stream"):
            headers = {"content-type": JSON, "content-length": len(body)}
            return self.stop_short(self.connection.head(200, headers) + half)
        self.connection.answer(200, half if self.fault == "broken_json" else body)
        return self.server.sent(self.record, count)

    def stream(self) -> None:
        record, connection = self.record, self.connection
        breaks = self.fault in IN_STREAM and self.fault != "endless"
        interval = max(self.interval, ENDLESS_INTERVAL) if self.fault == "endless" else self.interval
        pending = connection.head(200, STREAM | {"transfer-encoding": "chunked"})
        due = time.monotonic() + self.first
        for count, data in self.ask.events(self.tokens):
            if not count:  # is sent together with the next token or the end
                pending += chunk(data)
                continue
            if breaks and record.tokens >= self.settings.after:
                break
            if (delay := due - time.monotonic()) > 0 or self.server.held(record):
                if pending:
                    connection.send(pending)
                    pending = b""
                gevent.sleep(max(delay, 0))
                if self.server.held(record):
                    self.wait_while_held()
            elif record.tokens % BURST == BURST - 1:
                gevent.sleep(0)
            due += interval
            if pending or data:
                connection.send(pending + chunk(data))
                pending = b""
            self.server.sent(record, 1)
        if self.fault in ("cut_stream", "silent_stream"):
            return self.stop_short(pending)
        if self.fault == "error_in_stream":
            pending += chunk(self.ask.failure())
        elif self.fault == "broken_json":
            pending += chunk(self.ask.broken())
        return connection.send(pending + LAST_CHUNK)

    def wait_while_held(self) -> None:
        self.server.changed()
        while self.server.held(self.record):
            gevent.sleep(HELD_INTERVAL)

    def stop_short(self, data: bytes) -> None:
        self.connection.send(data)
        if self.fault == "silent_stream":
            self.never()
        self.server.end(self.record, FAULT)
        self.connection.hang_up()

    def never(self) -> None:
        """Wait forever: only the client's disconnect ends this."""
        gevent.event.Event().wait()
