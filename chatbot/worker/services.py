"""The parts of one worker process, as its tasks and threads use them."""

from __future__ import annotations

import logging
import threading
import time
from functools import cached_property

import redis

from chatbot.api_keys.charges import Charges
from chatbot.config import PYTHON, Settings
from chatbot.protocol.events import STOP_CHANNEL, stopped_reply
from chatbot.sessions.leases import Leases
from chatbot.sessions.ledger import Ledger
from chatbot.store.listeners import ClusterListeners, Listeners, open_listeners
from chatbot.store.partition_table import open_partitions
from chatbot.store.partitions import Partitions
from chatbot.telemetry.counters import Counts
from chatbot.worker.bots.model import PythonModel
from chatbot.worker.grouped_streams import GroupedStreams
from chatbot.worker.models import create_model
from chatbot.worker.models.base import Model
from chatbot.worker.models.event_loop import ModelLoop
from chatbot.worker.pipelined_scripts import PipelinedScripts
from chatbot.worker.prompts import max_messages
from chatbot.worker.replies import Replies

logger = logging.getLogger(__name__)

#: Seconds that the first task waits for the listener. Without it only the recovery from failures is slower.
_FIRST_SUBSCRIPTION = 1.0
#: Connections to a Redis besides one for each reply in progress.
_SPARE_CONNECTIONS = 10
#: Slots for recovery alone are one for so many others, and at least one.
_SLOTS_PER_RECOVERY_SLOT = 8


def recovery_slots(concurrency: int) -> int:
    """The slots that a worker with `concurrency` slots for all messages has besides, for recovery alone."""
    return max(1, concurrency // _SLOTS_PER_RECOVERY_SLOT)


class WorkerServices:
    """The objects that the tasks of one process share. Each is made at its first use, after a fork if there is one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self.counts = Counts()
        self.slots = settings.worker.concurrency

    @property
    def recovery_slots(self) -> int:
        return recovery_slots(self.slots)

    @cached_property
    def partitions(self) -> Partitions:
        return open_partitions(self._settings.redis.urls, self.slots + self.recovery_slots + _SPARE_CONNECTIONS)

    @property
    def client(self) -> redis.Redis:
        """The Redis of what belongs to no session."""
        return self.partitions.home.client

    @cached_property
    def leases(self) -> Leases:
        return Leases(
            self.partitions,
            ttl=self._settings.limits.session_ttl,
            history_messages=min(
                self._settings.model.history_messages, max_messages(self._settings.model.max_prompt_tokens)
            ),
            max_history=self._settings.limits.max_history_messages,
            max_history_bytes=self._settings.limits.max_history_bytes,
            channel=self.listeners.channel,
            sender=PipelinedScripts(self.loop),
        )

    @cached_property
    def loop(self) -> ModelLoop:
        return ModelLoop(self.slots + self.recovery_slots)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.partitions, self.listeners.settled)

    @cached_property
    def charges(self) -> Charges:
        return Charges(self.partitions)

    @cached_property
    def listeners(self) -> Listeners | ClusterListeners:
        return open_listeners(self.partitions, lambda _, payload: self.streams.stop(*stopped_reply(payload)))

    @cached_property
    def streams(self) -> GroupedStreams:
        return GroupedStreams(self.leases, self.partitions, self.counts)

    @cached_property
    def _replies(self) -> Replies:
        self.listeners.subscribe_everywhere(STOP_CHANNEL, _FIRST_SUBSCRIPTION)
        self.listeners.wait_until_receiving(_FIRST_SUBSCRIPTION)
        model = self._create_model()
        return Replies(self.leases, self.streams, model, self._settings, self.counts, self.loop)

    def _create_model(self) -> Model:
        if self._settings.model.api == PYTHON:
            return PythonModel(str(self._settings.model.callable), self.leases.facts, self.slots)
        return create_model(self._settings, lambda: self.client)

    def replies(self) -> Replies:
        """One object for all tasks and threads of the process."""
        with self._lock:
            return self._replies

    def task_loop(self) -> ModelLoop | None:
        """Where tasks run, once `replies` is there; None where each has a thread."""
        replies: Replies | None = self.__dict__.get("_replies")
        return replies.loop if replies else None

    def reporting(self) -> bool:
        """Whether a reply in progress is within its deadline and was reported to Redis lately."""
        return "streams" in self.__dict__ and self.streams.reporting()

    def load(self) -> tuple[int, int]:
        """The replies in progress, and how many there can be at a time."""
        return len(self.streams) if "streams" in self.__dict__ else 0, self.slots + self.recovery_slots

    def drain(self) -> None:
        """Begins no further message, and hands back those still in progress after `WORKER_SHUTDOWN_TIMEOUT`."""
        if "_replies" not in self.__dict__:
            return
        self._replies.draining = True
        deadline = time.monotonic() + self._settings.worker.shutdown_timeout
        while len(self.streams) and time.monotonic() < deadline:
            time.sleep(0.05)
        handed_back = self.streams.cancel_all("shutdown")
        if handed_back:
            logger.warning("unfinished replies that go back to other workers: %d", handed_back)
