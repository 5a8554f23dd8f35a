"""Follows one request of a session: what is stored of it first, then its events as they come.

A follower pulls: it holds the text so far, not the events, so that a client that reads slowly costs no more memory.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from chatbot.errors import StoreUnavailable
from chatbot.protocol.close_codes import Closing
from chatbot.protocol.events import Event
from chatbot.protocol.openai.response import View
from chatbot.sessions.ids import reply_id
from chatbot.sessions.responses import RequestState, Responses
from chatbot.web.fanout.subscriber import Subscriber
from chatbot.web.openai.ids import ResponseId

logger = logging.getLogger(__name__)

#: Seconds between two checks of whether the client is still connected.
TICK = 1.0
#: Seconds without an event after which the stored state is read again: pub/sub may have lost one.
_REREAD = 10.0
#: Seconds for which Redis may not answer before a response is followed no further: it takes some to restart.
_PATIENCE = 30.0
#: What of a view the frames of each type let grow.
_PARTS = {"delta": "text", "reasoning": "reasoning", "calls": "call_text"}
#: Events held for a client that does not read; beyond them the stored state is read instead.
_MAX_HELD = 1000


class Events(Subscriber):
    """The events of a session for one request, held until they are asked for."""

    def __init__(self, session: str) -> None:
        # `wait` gives the events out: none is sent.
        super().__init__(session, lambda _: None, self._leave)
        self._held_events: deque[Event] = deque()
        self._arrived = threading.Event()
        #: The web process shuts down.
        self.leaving = False

    def deliver(self, event: Event, frame: bytes) -> bool:
        """Holds an event; never asks for a snapshot, as the follower reads the stored state by itself."""
        if len(self._held_events) >= _MAX_HELD:
            self._held_events.clear()
            self.missed = True
        self._held_events.append(event)
        self._arrived.set()
        return True

    def wait(self, timeout: float) -> list[Event]:
        """The events that have come, after `timeout` seconds at the latest."""
        self._arrived.wait(timeout)
        self._arrived.clear()
        found = []
        while self._held_events:
            found.append(self._held_events.popleft())
        return found

    def _leave(self, _: Closing) -> None:
        self.leaving = True
        self._arrived.set()


class Follower:
    """One response as it grows. Iterating yields a `View` after each change, the last of an ended response, and None
    about each second in which nothing happened. Ends early when the web process shuts down."""

    def __init__(
        self, responses: Responses, events: Events, known: ResponseId, previous: str | None = None, *, new: bool = False
    ) -> None:
        """`previous` is the id of the previous response where the session does not hold it. The session is `new` when
        the request is its first, and the events were subscribed to before: nothing that is stored need be read."""
        self._responses = responses
        self._events = events
        self._known = known
        self._previous = previous
        self._last = 0
        self._view = (self._first() if new else None) or self._read()

    @property
    def leaving(self) -> bool:
        """Whether the web process shuts down."""
        return self._events.leaving

    @property
    def view(self) -> View:
        """The latest view."""
        return self._view

    def __iter__(self) -> Iterator[View | None]:
        yield self._view
        read_at = time.monotonic()
        while not self._view.ended and not self.leaving:
            before, complete = self._view, True
            found = self._events.wait(TICK)
            for event in found:
                complete = complete and self._apply(event)
            now = time.monotonic()
            if self._events.missed or not complete or (not found and now - read_at >= _REREAD):
                # Set again by what is lost while the state is read.
                self._events.missed = False
                if self._read_again(patient=now - read_at < _PATIENCE):
                    read_at = now
            elif found:
                read_at = now
            yield self._view if self._view != before else None

    def _read_again(self, *, patient: bool) -> bool:
        """Reads the stored state; false when Redis does not answer, as long as the follower is patient."""
        try:
            self._view = self._read()
        except StoreUnavailable as error:
            if not patient:
                raise
            logger.warning("a response is followed further when Redis answers: %s", error)
            self._events.missed = True
            time.sleep(TICK)
            return False
        return True

    def _first(self) -> View | None:
        """The response as its session's first event has it, which is the request's own message."""
        found = self._events.wait(TICK)
        if not found or found[0].number != 1:
            return None
        human = json.loads(found[0].frame)
        del human["type"]
        state = RequestState(
            name="",
            human=human,
            reply=None,
            failure=None,
            place=0,
            begun=False,
            partial="",
            partial_reasoning="",
            partial_calls="",
            event=1,
        )
        self._last = 1
        self._view = view_of(self._known, state, self._previous)
        return self._view if all(self._apply(event) for event in found[1:]) else None

    def _read(self) -> View:
        """What is stored."""
        state = self._responses.state(self._known.session, self._known.request)
        self._last = state.event
        return view_of(self._known, state, self._previous)

    def _apply(self, event: Event) -> bool:
        """Adds an event to the view; false when one before it is missing."""
        if event.number <= self._last:
            return True
        if event.number != self._last + 1:
            return False
        self._last = event.number
        frame = json.loads(event.frame)
        request = self._known.request
        match frame["type"]:
            case "delta" | "reasoning" | "calls" as kind if frame["reply_to"] == request:
                part = _PARTS[kind]
                before = getattr(self._view, part)
                if frame["offset"] > len(before):
                    return False
                grown = {part: before[: frame["offset"]] + frame["msg"]}
                self._view = replace(self._view, begun=True, **grown)
            case "message" if frame.get("reply_to") == request:
                del frame["type"]
                self._view = replace(self._view, text=frame["msg"], reasoning=frame.get("reasoning", ""), reply=frame)
            case "error" if frame["id"] == request:
                self._view = replace(self._view, text="", reasoning="", call_text="", failure=frame["message"])
        return True


def view_of(known: ResponseId, state: RequestState, previous: str | None = None) -> View:
    """The response that is stored."""
    options = state.human.get("options", {})
    if previous is None and options.get("previous"):
        previous = str(known._replace(request=options["previous"]))
    return View(
        id=str(known),
        previous_response_id=previous,
        human=state.human,
        reply_id=reply_id(known.session, known.request),
        text=state.reply["msg"] if state.reply else state.partial,
        reasoning=state.reply.get("reasoning", "") if state.reply else state.partial_reasoning,
        call_text="" if state.reply else state.partial_calls,
        reply=state.reply,
        failure=None if state.reply else state.failure,
        begun=state.begun,
        options=options,
    )
