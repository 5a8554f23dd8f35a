"""One pub/sub connection of a process, which outlives whatever happens to it.

Pub/sub delivers at most once, and a half-open connection delivers nothing without a word. So the listener sends
itself a heartbeat through Redis and reconnects when it does not hear it; after every break it says so, and whoever
may have missed something reads what is stored.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable

import redis

logger = logging.getLogger(__name__)

#: Connections of a listener: one to hear, one for its heartbeat, one while an old one is being replaced.
LISTENER_CONNECTIONS = 3
#: Seconds between heartbeats; several are missed before the connection counts as dead.
HEARTBEAT_INTERVAL = 2.0
#: Seconds without any heartbeat heard after which the connection is replaced.
DEAF_AFTER = 6.0
#: Seconds between two attempts to connect: at first, and at most.
_FIRST_DELAY = 0.05
_LONGEST_DELAY = 1.0
#: Channels in one SUBSCRIBE: resubscribing thousands goes out in pieces that Redis takes at a time.
_BATCH = 500
#: Seconds that the loop waits for data before it looks after its heartbeat.
_POLL = 0.5


class Listener:
    """Hears channels and calls `on_message(channel, payload)` for each message, in order, from one thread.

    `on_break()` is called, from the same thread, each time that messages may have been missed, once all channels
    are subscribed again; `on_heartbeat()` each time that the heartbeat is heard. None may block. `client` must not
    retry by itself: see `store.connect`.
    """

    def __init__(
        self,
        client: redis.Redis,
        on_message: Callable[[str, str], None],
        on_break: Callable[[], None] = lambda: None,
        on_heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._on_message = on_message
        self._on_break = on_break
        self._on_heartbeat = on_heartbeat
        self._heartbeat_channel = f"chat:heartbeat:{uuid.uuid4().hex}"
        # Guards all below; also held while SUBSCRIBE is written, so that commands do not mix.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._wanted: set[str] = set()
        self._confirmed: set[str] = set()
        self._pubsub: redis.client.PubSub | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._heard = 0.0

    def start(self) -> None:
        """Starts listening, once; later calls do nothing."""
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="listener", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Ends listening, within a second."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(_POLL * 2)

    @property
    def own_channel(self) -> str:
        """The channel of the heartbeat. Nobody else listens to it."""
        return self._heartbeat_channel

    @property
    def channel(self) -> str:
        """`own_channel` while the heartbeat is heard, else ''."""
        return self._heartbeat_channel if self.hears else ""

    @property
    def hears(self) -> bool:
        """Whether the listener heard its own heartbeat lately."""
        return time.monotonic() - self._heard < DEAF_AFTER

    def subscribe(self, channel: str, timeout: float) -> bool:
        """Subscribes and waits until Redis has confirmed it; false when that took more than `timeout` seconds.

        The channel stays wanted all the same.
        """
        self.start()
        with self._changed:
            if channel not in self._wanted:
                self._wanted.add(channel)
                self._send([channel], subscribe=True)
            return self._changed.wait_for(lambda: channel in self._confirmed, timeout)

    def unsubscribe(self, channel: str) -> None:
        with self._lock:
            self._wanted.discard(channel)
            self._confirmed.discard(channel)
            self._send([channel], subscribe=False)

    def wait_until_hearing(self, timeout: float) -> bool:
        """Waits for the first heartbeat, `timeout` seconds at most."""
        self.start()
        with self._changed:
            return self._changed.wait_for(lambda: self.hears, timeout)

    def _send(self, channels: list[str], *, subscribe: bool) -> None:
        """The lock is held. Without a connection there is nothing to send: connecting subscribes to all."""
        if self._pubsub is None:
            return
        try:
            if subscribe:
                self._pubsub.subscribe(*channels)
            else:
                self._pubsub.unsubscribe(*channels)
        except (redis.RedisError, OSError) as error:
            logger.warning("the listener's connection broke while subscribing: %s", error)
            self._drop()

    def _run(self) -> None:
        delay = _FIRST_DELAY
        broken = False
        while not self._closed:
            try:
                self._connect()
                if broken:
                    logger.info("the listener hears again")
                    self._on_break()
                broken, delay = True, _FIRST_DELAY
                self._listen()
            except (redis.RedisError, OSError, ValueError) as error:
                # ValueError: the connection was closed by the thread that found it broken.
                if not self._closed:
                    logger.warning("the listener lost Redis: %s: %s", type(error).__name__, error)
            except Exception:
                logger.exception("the listener failed and starts again")
            with self._changed:
                self._drop()
                if not self._closed:
                    self._changed.wait(delay)
            delay = min(delay * 2, _LONGEST_DELAY)

    def _connect(self) -> None:
        # A Redis that is still loading its data lets one subscribe, but has nothing yet for whoever then reads.
        self._client.ping()
        with self._lock:
            pubsub = self._client.pubsub()
            self._confirmed.clear()
            channels = [self._heartbeat_channel, *self._wanted]
            pubsub.subscribe(channels[0])
            self._pubsub = pubsub
            for start in range(1, len(channels), _BATCH):
                pubsub.subscribe(*channels[start : start + _BATCH])
        # Messages that come before the last confirmation are delivered like any others.
        waiting = set(channels)
        deadline = time.monotonic() + DEAF_AFTER
        while waiting - self._confirmed:
            if time.monotonic() > deadline:
                raise redis.TimeoutError("subscribing was not confirmed")
            self._take(pubsub)
            with self._lock:
                # Whoever left meanwhile is not waited for.
                waiting &= self._wanted | {self._heartbeat_channel}

    def _listen(self) -> None:
        pubsub = self._pubsub
        self._heard = time.monotonic()
        next_beat = 0.0
        while not self._closed and pubsub is not None and pubsub is self._pubsub:
            now = time.monotonic()
            if now >= next_beat:
                next_beat = now + HEARTBEAT_INTERVAL
                self._beat()
            if not self.hears:
                raise redis.TimeoutError(f"heard no heartbeat for {DEAF_AFTER:.0f} s")
            self._take(pubsub)

    def _beat(self) -> None:
        try:
            self._client.publish(self._heartbeat_channel, "")
        except redis.RedisError as error:
            # The listening side finds out by itself whether it is affected.
            logger.warning("the listener could not send its heartbeat: %s", error)

    def _take(self, pubsub: redis.client.PubSub) -> None:
        message = pubsub.get_message(timeout=_POLL)
        if message is None:
            return
        kind, channel, data = message["type"], message["channel"], message["data"]
        if kind == "message":
            if channel == self._heartbeat_channel:
                self._hear()
                return
            try:
                self._on_message(channel, data)
            except Exception:
                logger.exception("a message on %s could not be handled", channel)
        elif kind == "subscribe":
            with self._changed:
                if channel in self._wanted or channel == self._heartbeat_channel:
                    self._confirmed.add(channel)
                self._changed.notify_all()

    def _hear(self) -> None:
        with self._changed:
            self._heard = time.monotonic()
            self._changed.notify_all()
        self._on_heartbeat()

    def _drop(self) -> None:
        """The lock is held."""
        pubsub, self._pubsub = self._pubsub, None
        self._confirmed.clear()
        if pubsub is not None:
            pubsub.close()
