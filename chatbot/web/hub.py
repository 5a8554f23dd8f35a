"""Fans events out to the sockets of one web process, with one pub/sub listener for all sessions.

Pub/sub may lose events, the store does not. A socket subscribes first, then reads a snapshot, then passes on live
events without those that the snapshot holds. After the listener has lost Redis every socket reads a snapshot again,
from its position in the session's log.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import redis

from chatbot.errors import ChatbotError, StoreUnavailable
from chatbot.logs import bound
from chatbot.protocol import close_codes, frames
from chatbot.protocol.client_errors import SessionNotFound
from chatbot.protocol.close_codes import Closing
from chatbot.protocol.events import Event, events_channel, to_json
from chatbot.sessions.ids import reply_id
from chatbot.sessions.messages import Sessions, Snapshot
from chatbot.store.listener import Listener
from chatbot.web.outbox import text_frame

logger = logging.getLogger(__name__)

#: Seconds for a subscription to be confirmed: Redis takes a millisecond, a restart of it a few seconds.
_SUBSCRIBE_TIMEOUT = 5.0
#: Sockets that are attached at the same time. When thousands reconnect at once the rest queues: more at a time would
#: delay all other sockets' replies and serve none sooner.
_ATTACH_SLOTS = 16
#: Seconds to wait for a slot: thousands are attached in a few seconds, unless Redis is away.
_SLOT_TIMEOUT = 15.0
#: Events that may be held while one socket's snapshot is read and sent.
_MAX_HELD = 10_000
#: Sockets that read a snapshot at the same time after a break.
_RESYNC_THREADS = 8


class Subscriber:
    """One socket of a session. `send(frame)` must not block, and may raise `OSError` once the socket is gone."""

    def __init__(self, session: str, send: Callable[[bytes], Any], end: Callable[[Closing], None]) -> None:
        self.session = session
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
        # Human messages of this socket that were not passed over yet, and the events that publish them.
        self._own: set[str] = set()
        self._own_events: dict[int, str] = {}

    def deliver(self, event: Event, frame: bytes) -> bool:
        """Passes a live event on, or holds it; false when an event before it is missing.

        After a gap all events are held until `release` gets a snapshot.
        """
        with self._lock:
            if self._holds or self._gap:
                self._held.append((event, frame))
                if len(self._held) > _MAX_HELD:
                    self.end(close_codes.TRY_LATER)
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
                for number in [number for number in self._own_events if number <= snapshot.event]:
                    self._own.discard(self._own_events.pop(number))
                self._gap = False
                self.attached = True
            self._holds -= 1
            if self._holds or self._gap:
                return True
            held, self._held = self._held, []
            return self._pass_all(held)

    def ahead_of(self, snapshot: Snapshot) -> bool:
        """Whether Redis was restored without events that the socket has received. Call it during a hold."""
        with self._lock:
            return self._event > snapshot.event or self.position > snapshot.length

    def owns(self, message_id: str) -> bool:
        """Whether this socket has sent the message, and waits for no copy of it."""
        return message_id in self._own

    def sending(self, message_id: str) -> None:
        """This socket's own message is about to be stored: it is not sent back."""
        with self._lock:
            self._own.add(message_id)

    def sent(self, message_id: str, event: int) -> None:
        """The message was published by the event of that number, or by none for 0. Call it during a hold."""
        with self._lock:
            if event > self._event:
                self._own_events[event] = message_id
            else:
                self._own.discard(message_id)

    def send(self, frame: bytes) -> None:
        """Sends a frame at once, held events or not."""
        self.frames_sent += 1
        with contextlib.suppress(OSError):
            # The connection is gone: its reader notices and detaches the socket.
            self._send(frame)

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
            if event.number in self._own_events:
                self._own.discard(self._own_events.pop(event.number))
            else:
                self.send(frame)
        return True


class Hub:
    """Attaches sockets to sessions."""

    def __init__(
        self,
        client: redis.Redis,
        sessions: Sessions,
        on_break: Callable[[], None] = lambda: None,
        on_heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        """`client` is the listener's own, without retries. The callbacks are the listener's; they must not block."""
        self._sessions = sessions
        self._on_break = on_break
        self._lock = threading.Lock()
        self._subscribers: dict[str, set[Subscriber]] = {}
        self._listener = Listener(client, self._receive, self._recover, on_heartbeat)
        self._count = 0
        self._attaching = threading.BoundedSemaphore(_ATTACH_SLOTS)
        #: The process shuts down.
        self.leaving = False
        self._resyncing: set[Subscriber] = set()

    @property
    def channel(self) -> str:
        """A channel that only this process subscribes to."""
        return self._listener.own_channel

    @property
    def hears(self) -> bool:
        """Whether live replies reach this process: the listener receives its own heartbeat."""
        return self._listener.receiving

    def start(self) -> None:
        """Starts the listener, which the first socket would start otherwise."""
        self._listener.start()

    def wait_until_hearing(self, timeout: float) -> bool:
        return self._listener.wait_until_receiving(timeout)

    def close(self) -> None:
        """Stops the listener."""
        self._listener.close()

    def __len__(self) -> int:
        return self._count

    @contextlib.contextmanager
    def attach_slot(self) -> Iterator[None]:
        """A slot for attaching, out of a bounded number.

        Raises `StoreUnavailable` when no slot becomes free, as Redis is slow or away.
        """
        if not self._attaching.acquire(timeout=_SLOT_TIMEOUT):
            raise StoreUnavailable(f"no slot to attach within {_SLOT_TIMEOUT:.0f} s")
        try:
            yield
        finally:
            self._attaching.release()

    def attach(self, subscriber: Subscriber) -> None:
        """Subscribes; events are held until `Subscriber.release`.

        Raises `StoreUnavailable` when Redis does not confirm it.
        """
        channel = events_channel(subscriber.session)
        with self._lock:
            self._subscribers.setdefault(channel, set()).add(subscriber)
            self._count += 1
        if not self._listener.subscribe(channel, _SUBSCRIBE_TIMEOUT):
            self.detach(subscriber)
            raise StoreUnavailable(f"subscribing took more than {_SUBSCRIBE_TIMEOUT:.0f} s")

    def detach(self, subscriber: Subscriber) -> None:
        """Detaches a socket, once; the last one of a session unsubscribes."""
        channel = events_channel(subscriber.session)
        with self._lock:
            group = self._subscribers.get(channel)
            if group is None or subscriber not in group:
                return
            group.remove(subscriber)
            self._count -= 1
            if group:
                return
            del self._subscribers[channel]
            self._listener.unsubscribe(channel)

    def go_away(self, spread: float) -> None:
        """Closes every socket with `GOING_AWAY`, spread evenly over `spread` seconds, and sets `leaving`."""
        self.leaving = True
        subscribers = self.subscribers()
        for subscriber in subscribers:
            subscriber.end(close_codes.GOING_AWAY)
            time.sleep(spread / len(subscribers))

    def subscribers(self) -> list[Subscriber]:
        """All sockets of this process."""
        with self._lock:
            return [s for group in self._subscribers.values() for s in group]

    def _recover(self) -> None:
        self._on_break()
        self.resync(self.subscribers())

    def _receive(self, channel: str, payload: str) -> None:
        group = self._subscribers.get(channel)
        if not group:
            return
        event = Event.decode(payload)
        frame = text_frame(event.frame)
        gaps = [subscriber for subscriber in list(group) if not subscriber.deliver(event, frame)]
        if gaps:
            self.resync(gaps)

    def resync(self, subscribers: Iterable[Subscriber]) -> None:
        """Brings sockets that may have missed events up to date, in the background, each with a snapshot."""
        with self._lock:
            idle = not self._resyncing
            for subscriber in subscribers:
                if not subscriber.attached:
                    subscriber.missed = True
                elif subscriber not in self._resyncing:
                    subscriber.hold()
                    self._resyncing.add(subscriber)
            count = len(self._resyncing)
        if idle and count:
            logger.info("bringing %d sockets up to date", count)
            for _ in range(min(_RESYNC_THREADS, count)):
                threading.Thread(target=self._resync_some, name="resync", daemon=True).start()

    def _resync_some(self) -> None:
        while True:
            with self._lock:
                if not self._resyncing:
                    return
                subscriber = self._resyncing.pop()
            with bound(session=subscriber.session):
                try:
                    self._resync(subscriber)
                except SessionNotFound:
                    subscriber.end(close_codes.EXPIRED)
                except (ChatbotError, OSError) as error:
                    # The client reconnects with `after` and misses nothing.
                    logger.warning("a socket could not be brought up to date: %s", error)
                    subscriber.end(close_codes.OUT_OF_DATE)

    def _resync(self, subscriber: Subscriber) -> None:
        snapshot = self._sessions.snapshot(subscriber.session, position=subscriber.position, touch=False)
        if not snapshot.recovered or subscriber.ahead_of(snapshot):
            # The client reconnects: it fetches pages of what is missing, and sends again what Redis has lost.
            subscriber.end(close_codes.OUT_OF_DATE)
            return
        for frame in replay(subscriber.session, snapshot):
            # The socket got an `ack` for each of its own messages.
            if frame.get("source") != "human" or not subscriber.owns(frame["id"]):
                subscriber.send(text_frame(to_json(frame)))
                time.sleep(0)
        for frame in (*replayed_requests(snapshot), frames.selected(snapshot.leaf)):
            if not subscriber.owns(frame["id"] or ""):
                subscriber.send(text_frame(to_json(frame)))
        if not subscriber.release(snapshot):
            self.resync([subscriber])


def replay(session: str, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    """The frames of a snapshot: messages, failures, and the reply in progress."""
    for message in snapshot.messages:
        yield frames.message(message)
    for message_id, text in snapshot.failed.items():
        yield frames.failure(message_id, text, snapshot.requests.get(message_id))
    if snapshot.partial and snapshot.pending:
        request = snapshot.pending[0]
        human = snapshot.requests.get(request)
        yield frames.delta(
            reply_id(session, request), human or request, 0, snapshot.partial, request if human else None
        )


def replayed_requests(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    """A frame for each regeneration without a reply; a new socket has them in its `session` frame."""
    for request in snapshot.pending:
        if request in snapshot.requests:
            yield frames.request(request, snapshot.requests[request])
