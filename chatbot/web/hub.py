"""The sockets of one web process, and what reaches them: one listener for all, fanned out by session.

Pub/sub may miss something; what is stored may not. Whoever attaches subscribes first, then reads what is stored, then
lets live events through and drops those that it has already. After a break of the listener every socket reads what is
stored again, from where it was.
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
from chatbot.protocol import frames
from chatbot.protocol.client_errors import SessionNotFound
from chatbot.protocol.events import Event, events_channel, to_json
from chatbot.sessions.ids import reply_id
from chatbot.sessions.messages import Sessions, Snapshot
from chatbot.store.listener import Listener
from chatbot.web.outbox import text_frame

logger = logging.getLogger(__name__)

#: Close code and reason of a process that is about to end.
GOING_AWAY = (1001, "The server is going away: reconnect")
#: Seconds for a subscription to be confirmed: Redis takes a millisecond, a restart of it a few seconds.
_SUBSCRIBE_TIMEOUT = 5.0
#: Sockets that are attached at the same time. When thousands come back at once the rest waits in line: each step that
#: they take together delays everybody else's replies, and they are not served a moment sooner for it.
_ATTACHING = 16
#: Seconds to wait for that: thousands are attached in a few, unless Redis is away, and then they had better go.
_TURN_TIMEOUT = 15.0
#: Events that may wait while one socket's replay is read and sent.
_MAX_HELD = 10_000
#: Sockets that read what is stored at the same time, after a break.
_RESYNC_THREADS = 8


class Subscriber:
    """One socket of a session. `send(frame)` must not block, and may raise `OSError` once the socket is gone."""

    def __init__(self, session: str, send: Callable[[bytes], Any], end: Callable[[int, str], None]) -> None:
        self.session = session
        #: Ends the socket with a close code and a reason, without blocking.
        self.end = end
        #: How many messages of the session's log the socket has, or needs not.
        self.position = 0
        self._send = send
        self._lock = threading.Lock()
        self._event = 0
        # Live events are held while this is above zero. The first to let go is the replay of whoever attaches.
        self._holds = 1
        self._held: list[tuple[Event, bytes]] = []
        # An event is missing before the first that is held.
        self._gap = False
        #: Set when events were missed before the first replay was done.
        self.missed = False
        self.attached = False

    def deliver(self, event: Event, frame: bytes) -> bool:
        """Passes a live event on, or holds it; false when one before it is missing.

        From then on all are held until `release` brings a snapshot: nothing goes out past a gap.
        """
        with self._lock:
            if self._holds or self._gap:
                self._held.append((event, frame))
                if len(self._held) > _MAX_HELD:
                    self.end(1013, "Try again later")
                return True
            return self._pass_all([(event, frame)])

    def hold(self) -> None:
        """From here on live events wait for `release`."""
        with self._lock:
            self._holds += 1

    def release(self, snapshot: Snapshot | None = None) -> bool:
        """Lets live events through, without those that the snapshot, which has been sent, holds already.

        False when one is missing.
        """
        with self._lock:
            if snapshot is not None:
                self.position = snapshot.length
                self._event = snapshot.event
                self._gap = False
                self.attached = True
            self._holds -= 1
            if self._holds or self._gap:
                return True
            held, self._held = self._held, []
            return self._pass_all(held)

    def send(self, frame: bytes) -> None:
        """Sends a frame past the events."""
        with contextlib.suppress(OSError):
            # Once the socket is gone its reader finds out and detaches it.
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
            self.send(frame)
        return True


class Hub:
    """Attaches sockets to sessions. `client` is the listener's own: it must not retry by itself."""

    def __init__(
        self,
        client: redis.Redis,
        sessions: Sessions,
        on_break: Callable[[], None] = lambda: None,
        on_heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_break` and `on_heartbeat` are told what becomes of the listener; they must not block."""
        self._sessions = sessions
        self._on_break = on_break
        self._lock = threading.Lock()
        self._subscribers: dict[str, set[Subscriber]] = {}
        self._listener = Listener(client, self._heard, self._broke, on_heartbeat)
        self._count = 0
        self._attaching = threading.BoundedSemaphore(_ATTACHING)
        #: The process is about to end.
        self.leaving = False
        self._resyncing: set[Subscriber] = set()

    @property
    def channel(self) -> str:
        """A channel that only this process listens to."""
        return self._listener.own_channel

    @property
    def hears(self) -> bool:
        """Whether live replies reach this process: the listener hears its own heartbeat."""
        return self._listener.receiving

    def start(self) -> None:
        """Begins to listen; the first socket would otherwise."""
        self._listener.start()

    def wait_until_hearing(self, timeout: float) -> bool:
        return self._listener.wait_until_receiving(timeout)

    def close(self) -> None:
        """Ends listening."""
        self._listener.close()

    def __len__(self) -> int:
        return self._count

    @contextlib.contextmanager
    def attach_slot(self) -> Iterator[None]:
        """A turn to read what is stored and to attach, out of a bounded number at once.

        Raises `StoreUnavailable` when none comes up, as Redis is slow or away.
        """
        if not self._attaching.acquire(timeout=_TURN_TIMEOUT):
            raise StoreUnavailable(f"no turn to attach within {_TURN_TIMEOUT:.0f} s")
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
        """The last socket of a session unsubscribes."""
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
        """Tells every socket to reconnect elsewhere, evenly over `spread` seconds, so that they don't all at once.

        From here on `leaving` is true: who comes now is to be sent away at once.
        """
        self.leaving = True
        everyone = self.subscribers()
        for subscriber in everyone:
            subscriber.end(*GOING_AWAY)
            time.sleep(spread / len(everyone))

    def subscribers(self) -> list[Subscriber]:
        """All sockets of this process."""
        with self._lock:
            return [s for group in self._subscribers.values() for s in group]

    def _broke(self) -> None:
        self._on_break()
        self.resync(self.subscribers())

    def _heard(self, channel: str, payload: str) -> None:
        group = self._subscribers.get(channel)
        if not group:
            return
        event = Event.decode(payload)
        frame = text_frame(event.frame)
        gaps = [subscriber for subscriber in list(group) if not subscriber.deliver(event, frame)]
        if gaps:
            self.resync(gaps)

    def resync(self, subscribers: Iterable[Subscriber]) -> None:
        """Has these sockets read again what is stored, as they may have missed something."""
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
            logger.info("reading again what is stored for %d sockets", count)
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
                    subscriber.end(1008, "Session expired")
                except (ChatbotError, OSError) as error:
                    # The client comes back with `after` and misses nothing.
                    logger.warning("a socket could not be brought up to date: %s", error)
                    subscriber.end(1001, "Reconnect")

    def _resync(self, subscriber: Subscriber) -> None:
        snapshot = self._sessions.snapshot(subscriber.session, position=subscriber.position, touch=False)
        for frame in replay(subscriber.session, snapshot):
            # The socket's own messages were acknowledged on it; only replies can have been missed.
            if frame.get("source") != "human":
                subscriber.send(text_frame(to_json(frame)))
        if not subscriber.release(snapshot):
            self.resync([subscriber])


def replay(session: str, snapshot: Snapshot) -> list[dict[str, Any]]:
    """The frames that bring a socket to where the snapshot is: messages, failures, the reply in progress."""
    found: list[dict[str, Any]] = [frames.message(message) for message in snapshot.messages]
    for message_id, text in snapshot.failed.items():
        found.append(frames.failure(message_id, text))
    if snapshot.partial and snapshot.pending:
        message_id = snapshot.pending[0]
        found.append(frames.delta(reply_id(session, message_id), message_id, 0, snapshot.partial))
    return found
