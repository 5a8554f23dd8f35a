"""The server: records requests, and decides how each is answered."""

from __future__ import annotations

import contextlib
import json
import time
import traceback
from collections import OrderedDict, deque
from dataclasses import asdict, fields
from typing import Any

import gevent.event  # type: ignore[import-untyped, unused-ignore]

from devtools.fake_model.answer import Answer
from devtools.fake_model.faults import FAULTS, RefusedError, as_object
from devtools.fake_model.http_connection import Connection, Request
from devtools.fake_model.orders import Order
from devtools.fake_model.protocols import OpenAIRequest, TextGenerationRequest, to_bytes
from devtools.fake_model.state import CLOSED, DONE, FAULT, REFUSED, Controls, Record
from devtools.fake_model.turns import check_content, check_turns

KEPT = 20_000  # bounds the memory: records, and texts that order a counted fault

OPENAI = frozenset({"/v1/completions", "/v1/chat/completions"})
ROUTES = OPENAI | {"/", "/generate", "/generate_stream"}


class Server:
    def __init__(self, settings: Controls, *, model: str, keep_bodies: bool) -> None:
        self.initial, self.settings = settings, Controls(**asdict(settings))
        self.model, self.keep_bodies = model, keep_bodies
        self.records: deque[Record] = deque(maxlen=KEPT)
        self.counted: OrderedDict[str, int] = OrderedDict()  # requests for each text that orders a counted fault
        self.received = self.version = 0
        self.waiting: list[Any] = []

    def accept(self, sock: Any, _address: Any) -> None:
        Connection(self, sock).run()

    # Records

    def arrive(self, request: Request) -> None:
        if request.path in ("/control", "/requests") or request.method == "GET":
            return
        self.received += 1
        request.record = Record(self.received, request.method, request.path, time.time())
        if self.keep_bodies:
            request.record.headers = request.headers
        self.records.append(request.record)
        self.changed()

    def sent(self, record: Record, tokens: int) -> None:
        record.tokens += tokens
        record.last_at = time.time()
        if record.first_at is None:
            record.first_at = record.last_at
            self.changed()

    def end(self, record: Record | None, outcome: str) -> None:
        if record and record.outcome is None:
            record.outcome, record.ended_at = outcome, time.time()
            self.changed()

    def held(self, record: Record) -> bool:
        """Whether the reply has to wait before its next token."""
        return self.settings.hold is not None and record.tokens >= self.settings.hold

    def changed(self) -> None:
        self.version += 1
        while self.waiting:
            self.waiting.pop().set()

    # Requests

    def handle(self, connection: Connection, request: Request) -> None:
        record = request.record
        try:
            if record is None:
                self.manage(connection, request)
            else:
                ask = self.understand(request, record)
                if self.settings.strict_turns:
                    check_turns(ask)
                check_content(ask, self.settings.refuse)
                order = Order.parse(ask.human)
                record.fault = self.choose_fault(order)
                Answer(self, connection, record, ask, order).give()
                self.end(record, FAULT if record.fault else DONE)
        except RefusedError as refused:
            self.end(record, REFUSED)
            body = {"error": str(refused), "error_type": refused.error_type}
            shaped = as_object(refused.status, body) if request.path in OPENAI else body
            with contextlib.suppress(OSError):
                connection.answer(refused.status, to_bytes(shaped))
        except OSError:
            self.end(record, CLOSED)
            connection.hang_up()
        except Exception:  # noqa: BLE001 - a bug of this server, or an absurd request: the traceback shows it
            self.end(record, REFUSED)
            traceback.print_exc()
            connection.hang_up()

    def manage(self, connection: Connection, request: Request) -> None:
        headers: dict[str, Any] = {}
        body = b""
        match request.method, request.path:
            case "GET", "/requests":
                since, version, wait = (float(request.query.get(n, ["0"])[0]) for n in ("since", "version", "wait"))
                if wait and version == self.version:
                    event = gevent.event.Event()
                    self.waiting.append(event)
                    event.wait(wait)
                names = [item.name for item in fields(Record)]
                found = (record for record in self.records if record.number > since)
                body = json.dumps([{name: getattr(r, name) for name in names} for r in found]).encode()
                headers = {"x_version": self.version}
            case "DELETE", "/requests":
                self.records.clear()
            case "GET" | "PUT" | "DELETE" as method, "/control":
                if method == "PUT":
                    self.control(json.loads(request.body))
                elif method == "DELETE":
                    self.settings = Controls(**asdict(self.initial))
                    self.counted.clear()
                body = to_bytes(asdict(self.settings))
            case "GET", "/info":
                body = to_bytes({"model_id": self.model, "model_pipeline_tag": "text-generation"})
            case "GET", "/v1/models":
                body = to_bytes({"object": "list", "data": [{"id": self.model, "object": "model"}]})
            case method, path:
                raise not_found(method, path)
        connection.answer(200, body, **headers)

    def control(self, wanted: dict[str, Any]) -> None:
        if unknown := wanted.keys() - {item.name for item in fields(Controls)}:
            raise RefusedError(400, f"no such setting: {', '.join(sorted(unknown))}", "control")
        if "fault" in wanted:
            check_fault(wanted["fault"])
            wanted = {"count": None, **wanted}
        for name, value in wanted.items():
            setattr(self.settings, name, value)

    def understand(self, request: Request, record: Record) -> TextGenerationRequest | OpenAIRequest:
        path = "/" if request.path.startswith("/models/") else request.path  # as the hosted service routes them
        if request.method != "POST" or path not in ROUTES:
            raise not_found(request.method, request.path)
        try:
            body = json.loads(request.body)
            if b"\\ud" in request.body.lower():
                to_bytes(body)  # real servers refuse half a surrogate pair, too
        except ValueError as error:
            raise RefusedError(400, f"Failed to parse the request body as JSON: {error}") from None
        if self.keep_bodies:
            record.body = body
        if not isinstance(body, dict):
            raise RefusedError(422, "Failed to deserialize the JSON body into the target type")
        ask = (
            OpenAIRequest(path, body, self.model, record.number)
            if path in OPENAI
            else TextGenerationRequest(path, body)
        )
        record.stream = ask.stream
        if self.keep_bodies:
            record.prompt, record.messages = ask.prompt, ask.messages
        return ask

    def choose_fault(self, order: Order) -> str | None:
        settings = self.settings
        if order.fault is not None:
            check_fault(order.fault)
            if order.fault_count is None:
                return order.fault
            seen = self.counted.pop(order.text, 0)
            self.counted[order.text] = seen + 1
            if len(self.counted) > KEPT:
                self.counted.popitem(last=False)
            return order.fault if seen < order.fault_count else None
        if settings.fault is None or settings.count == 0:
            return None
        if settings.count is not None:
            settings.count -= 1
        return settings.fault


def check_fault(name: str | None) -> None:
    if name is not None and name not in FAULTS:
        raise RefusedError(400, f"no such fault: {name}", "control")


def not_found(method: str, path: str) -> RefusedError:
    return RefusedError(405 if path in ROUTES else 404, f"{method} {path}: nothing here", "not_found")
