"""What a worker asks of a model, whatever protocol it speaks."""

from __future__ import annotations

import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from chatbot.worker.models.errors import CallCancelled
from chatbot.worker.prompts import PromptMessage, ReplyText

#: The pieces of a reply. Closing them early ends the model call.
Pieces = Generator["Piece", None, None]


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a reply; the last one says why the model ended: `stop` or `length`."""

    text: str
    finish_reason: str | None = None


class Model(ABC):
    """A text-generation model: a conversation in, pieces of text and a finish reason out."""

    @abstractmethod
    def generate(self, conversation: Sequence[PromptMessage], call: Call) -> Pieces:
        """The reply to the last turn, piece by piece as the model generates it.

        The last piece, and only it, has a finish reason. Raises `ModelError`, transient or permanent by type, and
        `CallCancelled` once `call` is cancelled. A reply that ends without its end, by a lost connection say,
        raises as well.
        """


class Adapter(Model):
    """A model server, asked in its protocol."""

    #: What ends a reply, besides the model itself.
    stop_sequences: tuple[str, ...] = ()

    def generate(self, conversation: Sequence[PromptMessage], call: Call) -> Pieces:
        text = ReplyText(self.stop_sequences)
        with closing(self._ask(conversation, call)) as pieces:
            for piece in pieces:
                shown = text.feed(piece.text)
                reason = "stop" if text.stopped else piece.finish_reason
                if reason is not None:
                    yield Piece(shown + text.end(), reason)
                    return
                if shown:
                    yield Piece(shown)
        raise AssertionError("an adapter's last piece has a finish reason")

    @abstractmethod
    def _ask(self, conversation: Sequence[PromptMessage], call: Call) -> Pieces:
        """Like `generate`; pieces may be empty, and hold white space and stop sequences as the server sends them."""


class _Connection(Protocol):
    sock: socket.socket | None


class Call:
    """One model call, which another thread can end: by request, or because its time is up.

    Ending shuts the connection's socket down. That wakes the thread that waits for it, and the model server
    sees the connection close and need not go on generating.
    """

    def __init__(self, timeout: float) -> None:
        """`timeout` in seconds from now."""
        self.deadline = time.monotonic() + timeout
        self._lock = threading.Lock()
        self._connection: _Connection | None = None
        self._reason: str | None = None

    @property
    def cancelled(self) -> str | None:
        """Why the call was ended, or None."""
        return self._reason

    def cancel(self, reason: str) -> None:
        """Ends the call; the first reason given stays."""
        with self._lock:
            self._reason = self._reason or reason
            if self._connection is not None:
                _shut_down(self._connection)

    def using(self, connection: _Connection) -> None:
        """Tells which connection the call waits for from now on. Raises `CallCancelled`."""
        with self._lock:
            self._connection = connection
            if self._reason is not None:
                _shut_down(connection)
        self.check()

    def done(self) -> None:
        """The connection goes back to the pool: cancelling no longer touches it."""
        with self._lock:
            self._connection = None

    def check(self) -> None:
        """Raises `CallCancelled` if the call has been ended."""
        if self._reason is not None:
            raise CallCancelled(self._reason)


def _shut_down(connection: _Connection) -> None:
    if connection.sock is None:
        return
    try:
        # The plain socket's method, also for TLS: its own would pull the TLS state from under the reading thread.
        socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)
    except OSError:
        # Closed already, which is what was wanted.
        return
