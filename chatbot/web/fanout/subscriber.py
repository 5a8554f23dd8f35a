"""One socket's view of its session's events: in order, without gaps or repetitions, and without its own messages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from chatbot.protocol import close_codes
from chatbot.protocol.close_codes import Closing
from chatbot.protocol.compact_json import to_json
from chatbot.protocol.events import Event
from chatbot.sessions.snapshots import Snapshot
from chatbot.web.fanout.outbox import text_frame

#: Events that may be held while one socket's snapshot is read and sent.
_MAX_HELD = 10_000


class Subscriber:
    """One socket of a session. `send(frame)` must not block, and may raise `OSError` once the socket is gone."""

    def __init__(
        self,
        session: str,
        send: Callable[[bytes], Any],
        end: Callable[[Closing], None],
        encode: Callable[[str], bytes] = text_frame,
    ) -> None:
        """`encode` makes the bytes that are sent from a frame's JSON."""
        self.session = session
        self.encode = encode
        #: Closes the socket without blocking.
        self.end = end
        #: Messages of the session's log, from its start, that the socket has or does not need.
        self.position = 0
        self._send = send
        self._lock = threading.Lock()
        # The number of the last event that was passed on, or that a snapshot held.
        self._event = 0
        # Live events are held while this is above zero, and until the first snapshot was sent.
        self._holds = 1
        self._held: list[tuple[Event, bytes]] = []
        # An event is missing before the first that is held.
        self._gap = False
        #: Events were missed before the first snapshot was sent.
        self.missed = False
        #: The first snapshot was sent.
        self.attached = False
        #: Frames that were sent.
        self.frames_sent = 0
        # Ids of this socket's own requests whose events have not come yet. They are known by id, not by the event's
        # number: when storing one fails, its event may come all the same.
        self._own: set[str] = set()
        # Set by what may be the last event for which `pass_before` waits.
        self._arrival: threading.Event | None = None

    def deliver(self, event: Event, frame: bytes) -> bool:
        """Passes a live event on, or holds it; false when an event before it is missing.

        After a gap all events are held until `release` gets a snapshot.
        """
        with self._lock:
            if self._holds or self._gap:
                self._held.append((event, frame))
                self._notify()
                if len(self._held) > _MAX_HELD:
                    self.end(close_codes.TRY_LATER)
                return True
            if event.number == self._event + 1 and not self._own:
                self._event = event.number
                self.position = event.position or self.position
                self.send(frame)
                return True
            return self._pass_all([(event, frame)])

    def hold(self) -> None:
        """Holds live events until `release`; may be nested."""
        with self._lock:
            self._holds += 1

    def release(self, snapshot: Snapshot | None = None) -> bool:
        """Ends a hold; the last one passes the held events on. False when an event is missing.

        A `snapshot` has been sent before: its events are dropped.
        """
        with self._lock:
            if snapshot is not None:
                self.position = snapshot.length
                self._event = snapshot.event
                self._own.difference_update(message["id"] for message in snapshot.messages)
                self._gap = False
                self.attached = True
                self._notify()
            self._holds -= 1
            if self._holds or self._gap:
                return True
            held, self._held = self._held, []
            return self._pass_all(held)

    def pass_before(self, number: int, timeout: float) -> bool:
        """Passes on the events before the one with this number, and waits for those that have not come; call it during
        a hold. False when one of them is missing, or after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            with self._lock:
                if self._event >= number - 1:
                    return True
                if not self._gap:
                    held, self._held = self._held, []
                    passed = self._pass_all([each for each in held if each[0].number < number])
                    self._held += [each for each in held if each[0].number >= number]
                    if not passed:
                        return False
                    if self._event >= number - 1:
                        return True
                self._arrival = arrival = threading.Event()
            if not arrival.wait(max(deadline - time.monotonic(), 0)):
                return False

    @property
    def event(self) -> int:
        """The number of the last event that was passed on."""
        return self._event

    def ahead_of(self, snapshot: Snapshot) -> bool:
        """Whether Redis was restored without events that the socket has received. Call it during a hold."""
        with self._lock:
            return self._event > snapshot.event or self.position > snapshot.length

    def owns(self, message_id: str) -> bool:
        """Whether this socket has sent the request, and gets no copy of it."""
        return message_id in self._own

    def sending(self, message_id: str) -> None:
        """This socket's own request is about to be stored and published: it is not sent back."""
        with self._lock:
            self._own.add(message_id)

    def not_published(self, message_id: str) -> None:
        """No event comes for the request: it was refused, or published before."""
        with self._lock:
            self._own.discard(message_id)

    def send(self, frame: bytes) -> None:
        """Sends a frame at once, held events or not."""
        self.frames_sent += 1
        try:
            self._send(frame)
        except OSError:
            # The connection is gone: its reader notices and detaches the socket.
            return

    def send_frame(self, frame: dict[str, Any]) -> None:
        """Encodes and sends a frame at once."""
        self.send(self.encode(to_json(frame)))

    def _notify(self) -> None:
        if self._arrival is not None:
            self._arrival.set()
            self._arrival = None

    def _pass_all(self, events: list[tuple[Event, bytes]]) -> bool:
        for at, (event, frame) in enumerate(events):
            if event.number <= self._event:
                continue
            if event.number != self._event + 1:
                self._gap = True
                self._held = events[at:]
                return False
            self._event = event.number
            self.position = event.position or self.position
            if self._own and (request := event.request) in self._own:
                self._own.discard(request)
            else:
                self.send(frame)
        return True
