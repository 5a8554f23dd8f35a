"""Models on servers that answer what a test prescribes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence

from chatbot.config import HUGGINGFACE, OPENAI_CHAT, OPENAI_COMPLETIONS, ModelAddress, ModelSettings, Settings
from chatbot.worker.models import create_model
from chatbot.worker.models.answers.piece import Piece, Pieces
from chatbot.worker.models.base import Model
from chatbot.worker.models.call import Call
from chatbot.worker.models.event_loop import ModelLoop
from chatbot.worker.prompts import PromptMessage
from devtools.harness.ports import free_port

#: Each path that can be posted to, and its protocol.
PATHS = {
    "/": HUGGINGFACE,
    "/generate": HUGGINGFACE,
    "/v1/completions": OPENAI_COMPLETIONS,
    "/v1/chat/completions": OPENAI_CHAT,
}

ModelFactory = Callable[..., Model]


class InLoop(Model):
    """A model whose calls run in a `ModelLoop`, as in a worker: there replies stream through libcurl."""

    loop: ModelLoop | None = None

    def __init__(self, model: Model) -> None:
        self._model = model

    def generate(self, conversation: Sequence[PromptMessage], call: Call) -> Pieces:
        # One for all tests of a process, as in a worker.
        call.loop = InLoop.loop = InLoop.loop or ModelLoop(10)
        pieces: list[Piece] = []

        def read() -> None:
            for piece in self._model.generate(conversation, call):
                pieces.append(piece)
                if piece.finish_reason is None:
                    # Where a worker waits.
                    call.wait_for_more()

        try:
            call.loop.run(read)
        finally:
            call.loop = None
            yield from pieces


def at(url: str, api: str = HUGGINGFACE, *, in_loop: bool = True, **changes: object) -> Model:
    """A model at one address."""
    model = create_model(Settings(model=ModelSettings(servers=(ModelAddress(url, api),), **changes)))  # type: ignore[arg-type]
    return InLoop(model) if in_loop else model


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

    with socket.create_server(("127.0.0.1", free_port())) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def answer(status: str, body: str, content_type: str = "application/json", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", f"Content-Length: {len(body.encode())}", *headers]
    return "\r\n".join([*head, "Connection: close", "", body]).encode()
