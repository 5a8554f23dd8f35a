"""What a client knows of its session, from the frames that it sent and received. Without any input or output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from chatbot_client.errors import ChatError, Refused, ReplyFailed
from chatbot_client.types import Delta, Frame, Message

#: Not stored, and worth sending again by itself.
UNAVAILABLE = "unavailable"


@dataclass
class Request:
    """A message, an edit, a regeneration or a retry, and what has come of its reply."""

    id: str
    #: The frame that asks for the reply.
    frame: Frame
    #: Of a retry: the frame of the request that failed, if it is known. The server takes it as often as it comes.
    original: Frame | None = None
    acknowledged: bool = False
    text: str = ""
    reasoning: str = ""
    #: All changes of the text so far, in order.
    deltas: list[Delta] = field(default_factory=list)
    #: `loading` or `retrying` while the reply takes longer.
    state: str | None = None
    message: Message | None = None
    error: ChatError | None = None

    @property
    def done(self) -> bool:
        return self.message is not None or self.error is not None

    def set_text(self, text: str) -> None:
        """Makes `text` the reply's text, by the smallest change."""
        same = _common(self.text, text)
        if same < max(len(self.text), len(text)):
            self.deltas.append(Delta(text[same:], same, replaces=same < len(self.text)))
            self.text = text


class State:
    """The requests without a reply, and how far the conversation is known."""

    def __init__(self, after: str | None = None) -> None:
        #: The last complete message that was received: a new connection continues after it.
        self.after = after
        self.leaf: str | None = None
        self.open: dict[str, Request] = {}

    def add(self, request: Request) -> None:
        """Notes a request before it is sent."""
        self.open[request.id] = request

    def fail_all(self, error: ChatError) -> None:
        """Ends all requests without a reply."""
        for request in self.open.values():
            request.error = error
        self.open.clear()

    def apply(self, frame: Frame) -> list[Frame]:
        """Notes what the frame says; returns the frames to send now."""
        handler = _HANDLERS.get(frame["type"])
        return handler(self, frame) if handler is not None else []

    def _session(self, frame: Frame) -> list[Frame]:
        """Sends again what may not have arrived, and asks for replies that the server does not send by itself.

        A repeated frame gets its `ack` again, and the reply or the failure if there is one.
        """
        self.leaf = frame.get("leaf")
        again = []
        for request in self.open.values():
            if request.id in frame["pending"]:
                request.acknowledged = True
            elif not request.acknowledged:
                again.append(request.frame)
            elif not frame["recovered"]:
                again.append(request.original or request.frame)
        return again

    def _ack(self, frame: Frame) -> list[Frame]:
        if request := self.open.get(frame["id"]):
            request.acknowledged = True
            self.leaf = request.id
        return []

    def _status(self, frame: Frame) -> list[Frame]:
        if request := self.open.get(frame["id"]):
            request.state = frame["state"]
        return []

    def _delta(self, frame: Frame) -> list[Frame]:
        if request := self._of(frame):
            request.state = None
            request.set_text(request.text[: frame["offset"]] + frame["msg"])
        return []

    def _reasoning(self, frame: Frame) -> list[Frame]:
        if request := self._of(frame):
            request.state = None
            request.reasoning = request.reasoning[: frame["offset"]] + frame["msg"]
        return []

    def _message(self, frame: Frame) -> list[Frame]:
        self.after = frame["id"]
        if frame["source"] == "human":
            # Also the client's own, where its stream and its requests are two connections.
            if own := self.open.get(frame["id"]):
                own.acknowledged = True
            return []
        if request := self._of(frame):
            request.set_text(frame["msg"])
            request.message = Message.from_frame(frame)
            request.reasoning = request.message.reasoning
            del self.open[request.id]
        return []

    def _error(self, frame: Frame) -> list[Frame]:
        request = self.open.get(frame.get("id") or "")
        if request is None or frame["code"] == UNAVAILABLE:
            return []
        if frame["code"] == "model_error":
            if request.frame["type"] == "retry" and not request.acknowledged:
                # The failure that is to be retried.
                return []
            request.error = ReplyFailed(frame["message"])
        elif request.acknowledged:
            # An answer to a frame that was repeated, and had arrived.
            return []
        else:
            request.error = Refused(frame["code"], frame["message"], frame.get("retry_after"))
        del self.open[request.id]
        return []

    def _selected(self, frame: Frame) -> list[Frame]:
        self.leaf = frame["id"]
        return []

    def _of(self, frame: Frame) -> Request | None:
        """The request whose reply the frame is about."""
        return self.open.get(frame.get("request") or frame["reply_to"])


_HANDLERS: dict[str, Callable[[State, Frame], list[Frame]]] = {
    "session": State._session,
    "ack": State._ack,
    "status": State._status,
    "delta": State._delta,
    "reasoning": State._reasoning,
    "message": State._message,
    "error": State._error,
    "selected": State._selected,
}


def _common(one: str, other: str) -> int:
    """The length of the common beginning."""
    length = min(len(one), len(other))
    if one[:length] == other[:length]:
        return length
    return next(place for place in range(length) if one[place] != other[place])
