"""A model server that sends prescribed bytes, and the three protocols' ways to say the same."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from chatbot.config import HUGGINGFACE, OPENAI_CHAT, OPENAI_COMPLETIONS
from chatbot.worker.models.base import Model
from chatbot.worker.models.call import Call
from chatbot.worker.prompts import PromptMessage
from devtools.harness.ports import free_port
from tests.support.models import at

Answer = bytes | Callable[[socket.socket], None]
STREAM, JSON = "text/event-stream", "application/json"


class ByteServer(socketserver.ThreadingTCPServer):
    """Sends the next of `answers` to each request, the last one again and again, and then hangs up."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", free_port()), _Handler)
        self.answers: list[Answer] = []
        self.decide: Callable[[dict[str, Any]], Answer] | None = None
        #: The bodies of the requests.
        self.requests: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    def script(self, *answers: Answer, decide: Callable[[dict[str, Any]], Answer] | None = None) -> None:
        """Sets the answers, or what decides for each request's body."""
        self.answers, self.requests, self.decide = list(answers), [], decide

    def next_answer(self, body: dict[str, Any]) -> Answer:
        with self.lock:
            self.requests.append(body)
            if self.decide is not None:
                return self.decide(body)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(socketserver.BaseRequestHandler):
    server: ByteServer

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            received = b""
            while b"\r\n\r\n" not in received:
                received += self.request.recv(65536)
            head, _, body = received.partition(b"\r\n\r\n")
            length = next(int(h.split(b":")[1]) for h in head.splitlines() if h.lower().startswith(b"content-length"))
            while len(body) < length:
                body += self.request.recv(65536)
            answer = self.server.next_answer(json.loads(body))
            if isinstance(answer, bytes):
                self.request.sendall(answer)
            else:
                answer(self.request)


@contextlib.contextmanager
def byte_server() -> Iterator[ByteServer]:
    with ByteServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def response(
    body: bytes | str, *, status: str = "200 OK", kind: str | None = JSON, headers: tuple[str, ...] = ()
) -> bytes:
    """A response with a length."""
    data = body.encode() if isinstance(body, str) else body
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {len(data)}",
        *([f"Content-Type: {kind}"] if kind else []),
        *headers,
    ]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + data


def chunked(*parts: bytes | str, kind: str | None = STREAM, end: bool = True, headers: tuple[str, ...] = ()) -> bytes:
    """A chunked response; without its `end` the connection is cut."""
    lines = ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *([f"Content-Type: {kind}"] if kind else []), *headers]
    body = b""
    for part in (p.encode() if isinstance(p, str) else p for p in parts):
        body += b"%x\r\n%b\r\n" % (len(part), part)
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body + (b"0\r\n\r\n" if end else b"")


def event(document: Any) -> str:
    return f"data: {json.dumps(document)}\n\n"


@dataclass(frozen=True)
class Wire:
    """A protocol: what a server of it sends."""

    api: str
    path: str

    def delta(self, text: Any, reason: Any = None, **fields: Any) -> dict[str, Any]:
        """A chunk; with a `reason`, the reply's last one."""
        if self.api == HUGGINGFACE:
            token = {"id": 1, "text": text, "special": False} if text else {"id": 2, "text": "</s>", "special": True}
            details = {"finish_reason": reason} if reason else None
            return {"token": token, "generated_text": None, "details": details, **fields}
        if self.api == OPENAI_COMPLETIONS:
            return {"choices": [{"index": 0, "text": text, "finish_reason": reason, **fields}]}
        return {"choices": [{"index": 0, "delta": {"content": text, **fields}, "finish_reason": reason}]}

    def end(self, reason: str = "stop", whole: str = "") -> dict[str, Any]:
        """The last chunk, which has no text."""
        if self.api == HUGGINGFACE:
            names = {"stop": "eos_token"}
            return self.delta("") | {"generated_text": whole, "details": {"finish_reason": names.get(reason, reason)}}
        return self.delta("", reason) if self.api == OPENAI_COMPLETIONS else {"choices": [_last(reason)]}

    def whole(self, text: Any, reason: Any = "stop") -> Any:
        """A reply that is not streamed."""
        if self.api == HUGGINGFACE:
            return [{"generated_text": text, "details": {"finish_reason": reason}}]
        if self.api == OPENAI_COMPLETIONS:
            return {"choices": [{"index": 0, "text": text, "finish_reason": reason}]}
        return {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}]}

    def hello(self) -> list[str]:
        """The events of the reply `Hello there.`"""
        return [*map(event, (self.delta("Hello"), self.delta(" there."), self.end(whole="Hello there.")))]

    def model(self, server: ByteServer, **changes: Any) -> Model:
        return at(server.url + self.path, self.api, **changes)


def _last(reason: str) -> dict[str, Any]:
    return {"index": 0, "delta": {}, "finish_reason": reason}


HF = Wire(HUGGINGFACE, "/")
COMPLETIONS = Wire(OPENAI_COMPLETIONS, "/v1/completions")
CHAT = Wire(OPENAI_CHAT, "/v1/chat/completions")


@dataclass(frozen=True)
class Reply:
    text: str
    reason: str | None
    reasoning: str = ""


def reply(model: Model, text: str = "hello") -> Reply:
    said = thought = ""
    reason: str | None = None
    for piece in model.generate([PromptMessage("user", text)], Call(30)):
        if piece.retracts:
            said, thought = "", thought + said
        said, thought, reason = said + piece.text, thought + piece.reasoning, piece.finish_reason
    return Reply(said, reason, thought)
