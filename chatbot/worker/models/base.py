"""The interface of a text-generation model, whatever its server's protocol, and the handle of one model call."""

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
from chatbot.worker.models.reply_text import ReplyText
from chatbot.worker.prompts import PromptMessage

#: The chunks of a reply. Closing the generator early ends the model call.
Pieces = Generator["Piece", None, None]


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk of a reply. The last one says why the reply ended: `stop`, `length` or `content_filter`."""

    text: str
    finish_reason: str | None = None
    #: The model's thinking, which is no part of the reply.
    reasoning: str = ""


class Model(ABC):
    """A text-generation model: takes a conversation, generates chunks of text and a finish reason."""

    @abstractmethod
    def generate(self, conversation: Sequence[PromptMessage], call: Call) -> Pieces:
        """The reply to the last message, in chunks as the model generates them.

        Only the last chunk has a finish reason. Raises `ModelError`, transient or permanent by type, also when the
        reply is cut off, and `CallCancelled` once `call` is cancelled.
        """


class ModelProtocol(Model):
    """A model on one server; a subclass for each protocol."""

    #: Texts that end a reply, besides the model itself.
    stop_sequences: tuple[str, ...] = ()

    def generate(self, conversation: Sequence[PromptMessage], call: Call) -> Pieces:
        text = ReplyText(self.stop_sequences)
        with closing(self._request(conversation, call)) as pieces:
            for piece in pieces:
                shown = text.feed(piece.text)
                reason = "stop" if text.stopped else piece.finish_reason
                if reason is not None:
                    yield Piece(shown + text.end(), reason, piece.reasoning)
                    return
                if shown or piece.reasoning:
                    yield Piece(shown, reasoning=piece.reasoning)
        raise AssertionError("the last chunk of every protocol has a finish reason")

    @abstractmethod
    def _request(self, conversation: Sequence[PromptMessage], call: Call) -> Pieces:
        """Like `generate`; chunks may be empty, and hold white space and stop sequences as the server sends them."""


class _HasSocket(Protocol):
    sock: socket.socket | None


class Call:
    """One model call, which another thread can end: at a user's request, or at the deadline.

    Ending shuts the connection's socket down. That wakes the thread that reads from the socket; the model server
    sees the connection close and can stop generating.
    """

    def __init__(self, timeout: float, request_id: str = "", session: str = "") -> None:
        """`timeout` in seconds from now; the model server gets `request_id`, if any, for its log.

        Calls of one `session` go to one server as far as possible.
        """
        self.session = session
        self.request_id = request_id
        self.deadline = time.monotonic() + timeout
        self._lock = threading.Lock()
        self._connection: _HasSocket | None = None
        self._reason: str | None = None

    @property
    def cancelled(self) -> str | None:
        """The reason for which the call was ended, or None."""
        return self._reason

    def cancel(self, reason: str) -> None:
        """Ends the call; the first reason given stays."""
        with self._lock:
            self._reason = self._reason or reason
            if self._connection is not None:
                _shut_down(self._connection)

    def using(self, connection: _HasSocket) -> None:
        """Sets the connection that the call waits for from now on. Raises `CallCancelled`."""
        with self._lock:
            self._connection = connection
            if self._reason is not None:
                _shut_down(connection)
        self.check()

    def done(self) -> None:
        """Forgets the connection, which goes back to the pool: cancelling no longer shuts it down."""
        with self._lock:
            self._connection = None

    def check(self) -> None:
        """Raises `CallCancelled` if the call has been ended."""
        if self._reason is not None:
            raise CallCancelled(self._reason)


def _shut_down(connection: _HasSocket) -> None:
    if connection.sock is None:
        return
    try:
        # The plain socket's method, also for TLS: SSLSocket.shutdown would drop the TLS state under the reading thread.
        socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)
    except OSError:
        # Closed already.
        return
