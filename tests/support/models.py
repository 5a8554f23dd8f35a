"""Models on servers that answer what a test prescribes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from chatbot.config import HUGGINGFACE, OPENAI_CHAT, OPENAI_COMPLETIONS, ModelAddress, ModelSettings, Settings
from chatbot.worker.models import create_model
from chatbot.worker.models.base import Call, Model
from chatbot.worker.prompts import PromptMessage

#: Each path that can be posted to, and its protocol.
PATHS = {
    "/": HUGGINGFACE,
    "/generate": HUGGINGFACE,
    "/v1/completions": OPENAI_COMPLETIONS,
    "/v1/chat/completions": OPENAI_CHAT,
}

ModelFactory = Callable[..., Model]


def at(url: str, api: str = HUGGINGFACE, **changes: object) -> Model:
    """A model at one address."""
    return create_model(Settings(model=ModelSettings(servers=(ModelAddress(url, api),), **changes)))  # type: ignore[arg-type]


def ask(model: Model, text: str, call: Call | None = None) -> tuple[str, str | None]:
    """The reply and its finish reason."""
    pieces = list(model.generate([PromptMessage("user", text)], call or Call(30)))
    assert [piece.finish_reason for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    return "".join(piece.text for piece in pieces), pieces[-1].finish_reason


@contextlib.contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """The URL of a server that sends these answers, one on each connection, whatever the requests."""

    def serve() -> None:
        for answer in answers:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def answer(status: str, body: str, content_type: str = "application/json", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", f"Content-Length: {len(body.encode())}", *headers]
    return "\r\n".join([*head, "Connection: close", "", body]).encode()
