"""What the worker processes have in progress on several model servers: each publishes its calls, and reads the others'.

A process that knows its own calls alone sees too few of them to know which server is busy. The counts travel beside the
replies, in a thread: no reply waits for them. Without Redis, or while they are old, a process counts its own calls.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping

import redis

from chatbot.errors import StoreUnavailable
from chatbot.telemetry.model_calls import calls_of, exchange_calls, forget_calls

logger = logging.getLogger(__name__)

#: Seconds between two exchanges of a process with calls in progress: at least the first, and the second for each
#: process that publishes calls, so that all together make 200 a second at most.
_INTERVAL, _INTERVAL_PER_PROCESS = 0.1, 0.005
#: Seconds for which a process without calls goes on: the next call begins soon, as a rule.
_LINGER = 1.0
#: Seconds between two tries while Redis does not answer.
_PAUSE = 1.0
#: Intervals after which a process that published nothing new is passed over, and after which what was read is too old.
_SILENT, _OLD = 10, 5
#: Seconds after which what a silent process published is removed. A process that goes on publishes it again.
_FORGET_AFTER = 60.0


class SharedCalls:
    """The calls of the other processes. Thread-safe."""

    def __init__(self, client: Callable[[], redis.Redis], own: Callable[[], Mapping[str, int]]) -> None:
        """`own` returns the calls in progress of this process, by server."""
        self._client = client
        self._own = own
        self._process = uuid.uuid4().hex[:12]
        self._lock = threading.Lock()
        self._begun = threading.Event()
        self._thread: threading.Thread | None = None
        self._others: Mapping[str, int] = {}
        self._read_at = -1000.0
        self._interval = _INTERVAL
        self._number = 0
        #: Of each process what it published last, and since when, by the monotonic clock.
        self._published: dict[str, tuple[str, float]] = {}

    def others(self) -> Mapping[str, int]:
        """The calls of all other processes by server; none while what is known of them is old."""
        return self._others if time.monotonic() - self._read_at < _OLD * self._interval else {}

    def begun(self) -> None:
        """A call of this process has begun: its calls are published until some time after the last one."""
        if not self._begun.is_set():
            self._begun.set()
            with self._lock:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._run, name="model-calls", daemon=True)
                    self._thread.start()

    def exchange(self) -> None:
        """Publishes the calls of this process, and reads those of the others. Raises `StoreUnavailable`."""
        client = self._client()
        self._number += 1
        found = exchange_calls(client, self._process, self._number, self._own())
        found.pop(self._process, None)
        now = time.monotonic()
        self._published = {
            process: before if (before := self._published.get(process)) and before[0] == text else (text, now)
            for process, text in found.items()
        }
        calls: Counter[str] = Counter()
        alive = 1
        for text, since in self._published.values():
            if now - since <= _SILENT * self._interval and (busy := calls_of(text)):
                calls.update(busy)
                alive += 1
        self._interval = max(_INTERVAL, _INTERVAL_PER_PROCESS * alive)
        self._others, self._read_at = calls, now
        forget_calls(client, [name for name, (_, since) in self._published.items() if now - since > _FORGET_AFTER])

    def _run(self) -> None:
        busy_at = 0.0
        while True:
            self._begun.wait()
            busy_at = time.monotonic() if any(self._own().values()) else busy_at
            pause = self._interval
            try:
                self.exchange()
            except StoreUnavailable as error:
                pause = _PAUSE
                logger.debug("the calls of other workers are not known: %s", error)
            except Exception:
                pause = _PAUSE
                logger.exception("exchanging the calls on model servers failed")
            if time.monotonic() - busy_at > _LINGER:
                self._begun.clear()
                if any(self._own().values()):
                    # A call has begun meanwhile, and found the event set.
                    self._begun.set()
            time.sleep(pause)
