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

from chatbot.errors import ChatbotError, StoreUnavailable
from chatbot.logs import bound
from chatbot.protocol import close_codes, frames
from chatbot.protocol.client_errors import SessionDamaged, SessionNotFound
from chatbot.protocol.close_codes import Closing
from chatbot.protocol.events import Event
from chatbot.sessions.ids import reply_id
from chatbot.sessions.sessions import Sessions
from chatbot.sessions.snapshots import Snapshot
from chatbot.store.listeners import Affected, open_listeners
from chatbot.store.partitions import PartitionGroup, Store, partitions_of
from chatbot.web.fanout.subscriber import Subscriber
from chatbot.web.traces import delivering

logger = logging.getLogger(__name__)

#: Seconds for a subscription to be confirmed: Redis takes a millisecond, a restart of it a few seconds.
_SUBSCRIBE_TIMEOUT = 5.0
#: Sockets that are attached at the same time. When thousands reconnect at once the rest queues: more at a time would
#: delay all other sockets' replies and serve none sooner.
_ATTACH_SLOTS = 16
#: Seconds to wait for a slot: thousands are attached in a few seconds, unless Redis is away.
_SLOT_TIMEOUT = 15.0
#: Sockets that read a snapshot at the same time after a break.
_RESYNC_THREADS = 8


class Hub:
    """Attaches sockets to sessions."""

    def __init__(
        self,
        store: Store,
        sessions: Sessions,
        on_break: Callable[[], None] = lambda: None,
        on_heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        """The callbacks are the listeners'; they must not block."""
        self._partitions = partitions_of(store)
        self._sessions = sessions
        self._on_break = on_break
        self._lock = threading.Lock()
        self._subscribers: dict[str, set[Subscriber]] = {}
        self._listeners = open_listeners(self._partitions, self._receive, self._recover, on_heartbeat)
        self._count = 0
        # A slow Redis delays the sockets of its own sessions alone.
        self._attaching = {group: threading.BoundedSemaphore(_ATTACH_SLOTS) for group in self._partitions.groups}
        #: The process shuts down.
        self.leaving = False
        #: Open connections that follow no session, each by what closes it without blocking.
        self.others: set[Callable[[Closing], None]] = set()
        self._resyncing: set[Subscriber] = set()

    @property
    def channel(self) -> str:
        """A channel that only this process subscribes to."""
        return self._listeners.own_channel

    @property
    def hears(self) -> bool:
        """Whether live replies reach this process: the listeners receive their own heartbeats."""
        return self._listeners.receiving

    def start(self) -> None:
        """Starts the listeners, which the first socket would start otherwise."""
        self._partitions.announce()
        self._listeners.start()

    def wait_until_hearing(self, timeout: float, group: PartitionGroup | None = None) -> bool:
        """Waits up to `timeout` seconds until live replies of a group's sessions, or of all, reach this process."""
        return self._listeners.wait_until_receiving(timeout, group)

    def close(self) -> None:
        """Stops the listeners."""
        self._listeners.close()

    def __len__(self) -> int:
        return self._count + len(self.others)

    @contextlib.contextmanager
    def attach_slot(self, session: str) -> Iterator[None]:
        """A slot for attaching to a session, out of a bounded number.

        Raises `StoreUnavailable` when no slot becomes free, as Redis is slow or away.
        """
        slots = self._attaching[self._partitions.of(session).group]
        if not slots.acquire(timeout=_SLOT_TIMEOUT):
            raise StoreUnavailable(f"no slot to attach within {_SLOT_TIMEOUT:.0f} s")
        try:
            yield
        finally:
            slots.release()

    def attach(self, subscriber: Subscriber) -> None:
        """Subscribes; events are held until `Subscriber.release`.

        Raises `StoreUnavailable` when Redis does not confirm it.
        """
        partition = self._partitions.of(subscriber.session)
        channel = partition.events(subscriber.session)
        with self._lock:
            self._subscribers.setdefault(channel, set()).add(subscriber)
            self._count += 1
        if not self._listeners.subscribe(partition, channel, _SUBSCRIBE_TIMEOUT):
            self.detach(subscriber)
            raise StoreUnavailable(f"subscribing took more than {_SUBSCRIBE_TIMEOUT:.0f} s")

    def detach(self, subscriber: Subscriber) -> None:
        """Detaches a socket, once; the last one of a session unsubscribes."""
        partition = self._partitions.of(subscriber.session)
        channel = partition.events(subscriber.session)
        with self._lock:
            group = self._subscribers.get(channel)
            if group is None or subscriber not in group:
                return
            group.remove(subscriber)
            self._count -= 1
            if group:
                return
            del self._subscribers[channel]
            self._listeners.unsubscribe(partition, channel)

    def go_away(self, spread: float) -> None:
        """Closes every socket with `GOING_AWAY`, spread evenly over `spread` seconds, and sets `leaving`."""
        self.leaving = True
        for end in list(self.others):
            end(close_codes.GOING_AWAY)
        subscribers = self.subscribers()
        for subscriber in subscribers:
            subscriber.end(close_codes.GOING_AWAY)
            time.sleep(spread / len(subscribers))

    def subscribers(self) -> list[Subscriber]:
        """All sockets of this process."""
        with self._lock:
            return [s for group in self._subscribers.values() for s in group]

    def _recover(self, affected: Affected) -> None:
        self._on_break()
        with self._lock:
            subscribers = [s for channel, group in self._subscribers.items() if affected(channel) for s in group]
        self.resync(subscribers)

    def _receive(self, channel: str, payload: str) -> None:
        group = self._subscribers.get(channel)
        if not group:
            return
        event = Event.decode(payload)
        with delivering(event.trace, len(group)):
            self._deliver(event, list(group))

    def _deliver(self, event: Event, group: list[Subscriber]) -> None:
        encoded: dict[Callable[[str], bytes], bytes] = {}
        gaps = []
        for subscriber in group:
            encode = subscriber.encode
            frame = encoded.get(encode) or encoded.setdefault(encode, encode(event.frame))
            if not subscriber.deliver(event, frame):
                gaps.append(subscriber)
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
            logger.info("sockets that are brought up to date: %d", count)
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
                except SessionDamaged:
                    subscriber.end(close_codes.DAMAGED)
                except (ChatbotError, OSError) as error:
                    # The client reconnects with `after` and misses nothing.
                    logger.warning("a socket could not be brought up to date: %s", error)
                    subscriber.end(close_codes.OUT_OF_DATE)
                except Exception:
                    # The socket would wait for ever, and those behind it.
                    logger.exception("a socket could not be brought up to date")
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
                subscriber.send_frame(frame)
                time.sleep(0)
        for frame in replayed_path(snapshot, subscriber.event, repeats=True):
            if not subscriber.owns(frame["id"] or ""):
                subscriber.send_frame(frame)
        if not subscriber.release(snapshot):
            self.resync([subscriber])


def replay(session: str, snapshot: Snapshot, held: tuple[int, int] = (0, 0)) -> Iterator[dict[str, Any]]:
    """The frames of a snapshot: messages, failures, and the reply in progress.

    `held` says how many code points of the reply's reasoning and text the client has.
    """
    for message in snapshot.messages:
        yield frames.message(message)
    for message_id, text in snapshot.failed.items():
        yield frames.failure(message_id, text, snapshot.requests.get(message_id))
    for request in snapshot.pending[:1]:
        human = snapshot.requests.get(request)
        reply, regeneration = (reply_id(session, request), human or request), request if human else None
        if reasoning := snapshot.reasoning[held[0] :]:
            yield frames.reasoning(*reply, held[0], reasoning, regeneration)
        if partial := snapshot.partial[held[1] :]:
            yield frames.delta(*reply, held[1], partial, regeneration)


def replayed_path(snapshot: Snapshot, event: int, *, repeats: bool = False) -> Iterator[dict[str, Any]]:
    """What follows `replay` for a client that has the events up to `event`.

    That is a frame for each regeneration without a reply, then the path that is shown, if one was selected since or
    what is replayed shows another: a regeneration, or with `repeats` a message that the client may have already.
    """
    requests = [frames.request(id_, snapshot.requests[id_]) for id_ in snapshot.pending if id_ in snapshot.requests]
    yield from requests
    repeated = repeats and any(message["source"] == "human" for message in snapshot.messages)
    if snapshot.selected > event or requests or repeated:
        yield frames.selected(snapshot.leaf)
