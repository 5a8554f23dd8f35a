"""One pub/sub connection of a process, which reconnects after every failure.

Pub/sub delivers at most once, and a half-open connection delivers nothing and raises no error. So the listener sends
itself a heartbeat through Redis, and reconnects when it does not receive it. After every break it calls back, so that
subscribers read from Redis what they may have missed.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
import uuid
from collections.abc import Callable
from itertools import chain
from typing import Any

import redis

from chatbot.store.connections import buffered_responses

logger = logging.getLogger(__name__)

#: Connections of a listener: to subscribe, to send its heartbeat, and one more while the first is being replaced.
LISTENER_CONNECTIONS = 3
#: Seconds from a heartbeat received to the next one sent, at least. A listener adds up to a quarter, always the same.
#: A Redis Cluster passes a heartbeat on to the listeners of all nodes: so one of them alone sends it.
HEARTBEAT_INTERVAL = 2.0
#: Seconds without a heartbeat after which the connection is replaced.
HEARTBEAT_TIMEOUT = 6.0
#: Seconds between two attempts to connect: at first, and at most.
_FIRST_DELAY = 0.05
_LONGEST_DELAY = 1.0
#: Seconds after a break until other processes, which try once in `_LONGEST_DELAY`, are surely connected again too.
_SETTLING = 2.0
#: Channels of one SUBSCRIBE.
_BATCH = 500
#: Messages that are handled in a row.
_IN_A_ROW = 16
#: Seconds to wait at most, for data while it connects and for the end of the thread.
_POLL, _END_TIMEOUT = 0.5, 1.0
#: Not the global generator, whose numbers a program may want to repeat: threads would draw from it at any time.
_CHANCE = random.Random()


class Listener:
    """Subscribes to channels and calls `on_message(channel, payload)` for each message, in order, from one thread.

    From the same thread it calls `on_break()` when messages may have been missed, once all channels are subscribed
    again, and `on_heartbeat()` for each heartbeat received. None may block. `client` must not retry by itself: see
    `connect`.
    """

    def __init__(
        self,
        client: redis.Redis,
        on_message: Callable[[str, str], None],
        on_break: Callable[[], None] = lambda: None,
        on_heartbeat: Callable[[], None] = lambda: None,
        own_channel: str = "",
    ) -> None:
        """`own_channel` is that of the heartbeat, to which no other process subscribes; made up unless given."""
        self._client = client
        self._on_message = on_message
        self._on_break = on_break
        self._on_heartbeat = on_heartbeat
        self._heartbeat_channel = own_channel or f"chat:heartbeat:{uuid.uuid4().hex}"
        # Guards all below, and the writing of SUBSCRIBE, so that commands do not mix.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._wanted: set[str] = set()
        self._confirmed: set[str] = set()
        self._pubsub: redis.client.PubSub | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._last_heartbeat = 0.0
        #: The monotonic time from which `settled` is true; never while the connection is broken.
        self._settled_from = 0.0

    def start(self) -> None:
        """Starts the thread; later calls do nothing."""
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="listener", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Ends the thread, within a second."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()
            # The answer wakes the thread.
            self._send([self._heartbeat_channel], subscribe=False)
            thread = self._thread
        if thread is not None:
            thread.join(_END_TIMEOUT)

    @property
    def own_channel(self) -> str:
        """The channel of the heartbeat; no other process subscribes to it."""
        return self._heartbeat_channel

    @property
    def channel(self) -> str:
        """`own_channel` while the listener receives its heartbeat, else ''."""
        return self._heartbeat_channel if self.receiving else ""

    @property
    def receiving(self) -> bool:
        """Whether the listener received its heartbeat within `HEARTBEAT_TIMEOUT`."""
        return time.monotonic() - self._last_heartbeat < HEARTBEAT_TIMEOUT

    @property
    def settled(self) -> bool:
        """Whether a break lies so far back that the other processes have subscribed again.

        Until then a channel without a subscriber does not show that its process is dead.
        """
        return time.monotonic() >= self._settled_from

    def subscribe(self, channel: str, timeout: float) -> bool:
        """Subscribes, and waits up to `timeout` seconds until Redis confirms it; false when it did not.

        The listener goes on trying then.
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

    def wants(self, channel: str) -> bool:
        """Whether the channel is subscribed, or will be once Redis answers."""
        return channel in self._wanted

    def wait_until_receiving(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds for the first heartbeat; whether it came."""
        self.start()
        with self._changed:
            return self._changed.wait_for(lambda: self.receiving, timeout)

    def _send(self, channels: list[str], *, subscribe: bool) -> None:
        """The caller holds the lock. Without a connection it sends nothing: connecting subscribes to all channels."""
        if self._pubsub is None:
            return
        try:
            self._write(self._pubsub, channels, subscribe=subscribe)
        except (redis.RedisError, OSError) as error:
            logger.warning("the listener's connection broke during a subscription: %s", error)
            self._disconnect()

    def _write(self, pubsub: redis.client.PubSub, channels: list[str], *, subscribe: bool) -> None:
        """Sends the commands for these channels. The caller holds the lock."""
        for part in self._batches(channels):
            (pubsub.subscribe if subscribe else pubsub.unsubscribe)(*part)

    @staticmethod
    def _batches(channels: list[str]) -> list[list[str]]:
        return [channels[start : start + _BATCH] for start in range(0, len(channels), _BATCH)]

    def _run(self) -> None:
        delay = _FIRST_DELAY
        broken = False
        said = ""
        while not self._closed:
            try:
                self._connect()
                if self._settled_from == math.inf:
                    self._settled_from = time.monotonic() + _SETTLING
                if broken:
                    logger.info("the listener receives again")
                    self._on_break()
                broken, delay, said = True, _FIRST_DELAY, ""
                self._listen()
            except (redis.RedisError, OSError, ValueError) as error:
                # ValueError: another thread found the connection broken, and closed it.
                found = f"{type(error).__name__}: {error}"
                if not self._closed and found != said:
                    said = found
                    logger.warning("the listener lost Redis, and tries again: %s", found)
            except Exception:
                logger.exception("the listener failed and starts again")
            self._settled_from = math.inf
            with self._changed:
                self._disconnect()
                if not self._closed:
                    self._changed.wait(delay)
            delay = min(delay * 2, _LONGEST_DELAY)

    def _connect(self) -> None:
        # A Redis that is loading its data accepts subscriptions but no reads.
        self._client.ping()
        with self._lock:
            pubsub = self._client.pubsub()
            self._confirmed.clear()
            channels = [self._heartbeat_channel, *self._wanted]
            pubsub.subscribe(channels[0])
            self._pubsub = pubsub
            self._write(pubsub, channels[1:], subscribe=True)
        # Messages may arrive between the confirmations; they are delivered as usual.
        waiting = set(channels)
        deadline = time.monotonic() + HEARTBEAT_TIMEOUT
        while waiting - self._confirmed:
            if time.monotonic() > deadline:
                raise redis.TimeoutError("Redis did not confirm the subscriptions")
            self._receive(pubsub)
            with self._lock:
                # Without the channels unsubscribed meanwhile.
                waiting &= self._wanted | {self._heartbeat_channel}

    def _listen(self) -> None:
        pubsub = self._pubsub
        self._last_heartbeat = time.monotonic()
        interval = HEARTBEAT_INTERVAL * _CHANCE.uniform(1.0, 1.25)
        next_heartbeat = 0.0
        while not self._closed and pubsub is not None and pubsub is self._pubsub:
            now = time.monotonic()
            if now >= next_heartbeat:
                next_heartbeat = now + interval
                self._send_heartbeat()
            if not self.receiving:
                raise redis.TimeoutError(f"no heartbeat for {HEARTBEAT_TIMEOUT:.0f} s")
            due = min(next_heartbeat, self._last_heartbeat + HEARTBEAT_TIMEOUT)
            self._receive(pubsub, max(due - now, 0.0))
            next_heartbeat = max(next_heartbeat, self._last_heartbeat + interval)

    def _send_heartbeat(self) -> None:
        try:
            self._client.publish(self._heartbeat_channel, "")
        except redis.RedisError as error:
            # The subscribing side notices by itself whether it is affected.
            logger.warning("the listener could not send its heartbeat: %s", error)

    def _receive(self, pubsub: redis.client.PubSub, timeout: float = _POLL) -> None:
        connection: Any = pubsub.connection
        if connection is None:
            raise redis.ConnectionError("the connection was closed")
        # Past `get_message`, half of whose work is for retries, which a listener has none of.
        if not connection.can_read(timeout=timeout):
            return
        try:
            first = connection.read_response()
        except redis.ResponseError as error:
            self._refused(error)
            return
        # Messages often come many at a time.
        for count, response in enumerate(chain([first], buffered_responses(connection))):
            if isinstance(response, list) and response[0] == "message":
                self._handle(*response)
            elif isinstance(response, redis.ResponseError):
                self._refused(response)
            elif (message := pubsub.handle_message(response)) is not None:
                self._handle(message["type"], message["channel"], message["data"])
            if count and count % _IN_A_ROW == 1:
                # They are read without blocking: the sockets that they go to run in between.
                time.sleep(0)

    def _handle(self, kind: str, channel: str, data: str) -> None:
        if kind == "message":
            if channel == self._heartbeat_channel:
                self._record_heartbeat()
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

    def _refused(self, error: redis.ResponseError) -> None:
        """Redis has refused a subscription."""
        raise error

    def _record_heartbeat(self) -> None:
        with self._changed:
            self._last_heartbeat = time.monotonic()
            self._changed.notify_all()
        self._on_heartbeat()

    def _disconnect(self) -> None:
        """The caller holds the lock."""
        pubsub, self._pubsub = self._pubsub, None
        self._confirmed.clear()
        if pubsub is not None:
            pubsub.close()
