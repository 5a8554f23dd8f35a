"""Reports all replies in progress of a worker process to Redis, from one thread.

One round trip reports the new text of many replies: it stores and publishes the text, renews the leases and reads the
stop flags. The same thread renews the leases of replies that have no new text, and ends model calls that are stopped,
past their deadline, or without a lease.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from chatbot.errors import StoreUnavailable
from chatbot.protocol import frames
from chatbot.sessions.leases import LEASE, RENEW, Assignment, Leases, Progress
from chatbot.telemetry.counters import REPORT_FAILURES, WORKER_REDIS_ERRORS, Counts
from chatbot.worker.models.base import Call
from chatbot.worker.models.usage import Usage

logger = logging.getLogger(__name__)

#: Seconds between two reports of a reply's text: short enough to look smooth. The first chunk does not wait.
REPORT_INTERVAL = 0.04
#: Characters of reasoning that are published and stored, and what follows them when there was more.
MAX_REASONING_LENGTH = 50_000
REASONING_CUT = "\n\n[The rest is left out.]"
#: Seconds between two checks of leases and deadlines.
_CHECK_INTERVAL = 0.25
#: Seconds between two reports while Redis does not answer.
_PAUSE = 0.5
#: Seconds without Redis after which a reply in progress is given up: its lease has long expired by then.
_GIVE_UP_AFTER = 60.0


class _Growing:
    """A text that grows, and how much of it was reported, in code points and in bytes of UTF-8."""

    def __init__(self) -> None:
        self.text = ""
        self.reported = self.reported_bytes = 0

    def take(self) -> tuple[str, int, int]:
        """The text that was not reported, with its offset in code points and in bytes; it counts as reported."""
        offset, byte_offset, text = self.reported, self.reported_bytes, self.text
        self.reported = len(text)
        new = text[offset:]
        self.reported_bytes += len(new.encode())
        return new, offset, byte_offset


class Stream:
    """A reply in progress. The thread that reads from the model calls `add`."""

    def __init__(self, streams: Streams, assignment: Assignment, call: Call) -> None:
        self.assignment = assignment
        self.call = call
        self._text, self._reasoning = _Growing(), _Growing()
        #: Tokens of the prompt, estimated.
        self.prompt_tokens = 0
        self.usage: Usage | None = None
        #: The function calls of the reply.
        self.calls: tuple[Mapping[str, Any], ...] = ()
        #: Set once another worker holds the lease, or the session has ended.
        self.lost = False
        self._streams = streams
        # Below, guarded by the lock of `streams`, and so is what was reported of the texts.
        self.last_report = time.monotonic()
        self.last_answer = self.last_report
        self.queued = False

    @property
    def text(self) -> str:
        return self._text.text

    @property
    def reasoning(self) -> str:
        return self._reasoning.text

    @property
    def begun(self) -> bool:
        """Whether there is text or reasoning."""
        return bool(self._text.text or self._reasoning.text)

    @property
    def reported(self) -> bool:
        """Whether something was reported. The caller holds the lock of `Streams`."""
        return bool(self._text.reported or self._reasoning.reported)

    def add(self, text: str, reasoning: str = "") -> None:
        """Appends text and reasoning, to be reported. Too much reasoning is cut, and says so."""
        room = MAX_REASONING_LENGTH - len(self._reasoning.text)
        if len(reasoning) > room:
            reasoning = f"{reasoning[:room]}{REASONING_CUT}" if room >= 0 else ""
        if text or reasoning:
            self._text.text += text
            self._reasoning.text += reasoning
            self._streams.enqueue(self)

    def retract(self) -> None:
        """Turns all text so far into reasoning: the reply's text begins anew, at offset 0."""
        with self._streams.lock:
            thought, self._text = self._text.text, _Growing()
        self.add("", thought)

    def report(self) -> Progress:
        """What is new since the last report. The caller holds the lock of `Streams`."""
        self.last_report = time.monotonic()
        text, offset, byte_offset = self._text.take()
        thought, thought_offset, thought_byte_offset = self._reasoning.take()
        return Progress(
            self.assignment,
            text,
            byte_offset,
            self._frame(frames.delta, offset, text),
            thought,
            thought_byte_offset,
            self._frame(frames.reasoning, thought_offset, thought),
        )

    def last_delta(self) -> dict[str, Any] | None:
        """The text that was not reported before the stream was closed, as a `delta` frame."""
        text, offset, _ = self._text.take()
        return self._frame(frames.delta, offset, text)

    def _frame(self, frame: Callable[..., dict[str, Any]], offset: int, text: str) -> dict[str, Any] | None:
        work = self.assignment
        return frame(work.reply_id, work.reply_to, offset, text, work.regeneration) if text else None

    def start_over(self) -> None:
        """Makes the next report hold all text. The caller holds the lock of `Streams`."""
        for growing in (self._text, self._reasoning):
            growing.reported = growing.reported_bytes = 0


class Streams:
    """The replies in progress of this process."""

    def __init__(self, leases: Leases, counts: Counts | None = None) -> None:
        self._leases = leases
        self._counts = counts or Counts()
        self.lock = threading.Lock()
        self._changed = threading.Condition(self.lock)
        self._open: dict[str, Stream] = {}
        #: Streams with unreported text.
        self._dirty: list[Stream] = []
        self._thread: threading.Thread | None = None
        self._paused_until = 0.0
        # Held during a round trip, so that `close` can wait for its end.
        self._reporting = threading.Lock()

    def open(self, assignment: Assignment, call: Call) -> Stream:
        """Renews the lease of a reply from here to `close`.

        Of two claims of one session only the later one still holds the lease: the call of the other one is cancelled.
        """
        stream = Stream(self, assignment, call)
        with self._changed:
            other = self._open.get(assignment.session)
            latest = stream
            if other is not None:
                if int(other.assignment.fence) > int(assignment.fence):
                    latest, other = other, stream
                other.lost = True
                other.call.cancel("lease")
            self._open[assignment.session] = latest
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="streams", daemon=True)
                self._thread.start()
        return stream

    def close(self, stream: Stream) -> None:
        """Ends the stream; no report of it is under way once this returns."""
        with self._changed:
            if self._open.get(stream.assignment.session) is stream:
                del self._open[stream.assignment.session]
        with self._reporting:
            return

    def stop(self, session: str) -> None:
        """Ends the model call of the session's reply, if this process makes it."""
        with self.lock:
            stream = self._open.get(session)
        if stream is not None:
            stream.call.cancel("stop")

    def cancel_all(self, reason: str) -> int:
        """Ends all model calls; returns how many."""
        with self.lock:
            streams = list(self._open.values())
        for stream in streams:
            stream.call.cancel(reason)
        return len(streams)

    def __len__(self) -> int:
        return len(self._open)

    def reporting(self) -> bool:
        """Whether a reply in progress is within its deadline and was reported to Redis lately."""
        now = time.monotonic()
        with self.lock:
            return any(s.call.deadline > now and now - s.last_answer < LEASE / 1000 for s in self._open.values())

    def enqueue(self, stream: Stream) -> None:
        """Marks a stream as having text to report."""
        with self._changed:
            if not stream.queued:
                stream.queued = True
                self._dirty.append(stream)
                self._changed.notify()

    def _run(self) -> None:
        next_check = 0.0
        while True:
            with self._changed:
                now = time.monotonic()
                due = max(min((_due(s) for s in self._dirty), default=next_check), self._paused_until)
                wait = min(due, next_check) - now
                if wait > 0:
                    self._changed.wait(wait)
                    now = time.monotonic()
            try:
                if now >= next_check:
                    next_check = now + _CHECK_INTERVAL
                    self._check(now)
                if now >= self._paused_until:
                    self._report(now)
            except Exception:
                # The leases of the other replies must still be renewed.
                logger.exception("reporting replies in progress failed")

    def _check(self, now: float) -> None:
        with self.lock:
            streams = list(self._open.values())
        for stream in streams:
            if now >= stream.call.deadline:
                stream.call.cancel("deadline")
            with self.lock:
                if now - stream.last_report >= RENEW / 1000 and not stream.queued:
                    stream.queued = True
                    self._dirty.append(stream)

    def _report(self, now: float) -> None:
        with self._reporting:
            with self.lock:
                ready = [s for s in self._dirty if _due(s) <= now]
                if not ready:
                    return
                self._dirty = [s for s in self._dirty if _due(s) > now]
                for stream in ready:
                    stream.queued = False
                ready = [s for s in ready if self._open.get(s.assignment.session) is s and not s.lost]
                reports = [s.report() for s in ready]
            if not ready:
                return
            try:
                answers = self._leases.progress(reports)
            except StoreUnavailable as error:
                self._counts.add(WORKER_REDIS_ERRORS)
                self._counts.add(REPORT_FAILURES, amount=len(ready))
                logger.warning("%d replies could not be reported: %s", len(ready), error)
                self._requeue(ready)
                return
        for stream, answer in zip(ready, answers, strict=True):
            stream.last_answer = time.monotonic()
            if answer in ("lost", "ended"):
                stream.lost = True
                stream.call.cancel("lease" if answer == "lost" else "ended")
            elif answer == "stop":
                stream.call.cancel("stop")
            elif answer == "behind":
                # Redis was restored without the last reports.
                with self.lock:
                    stream.start_over()
                self.enqueue(stream)

    def _requeue(self, streams: list[Stream]) -> None:
        """Reports the whole texts again after a pause, as the outcome of the last report is unknown."""
        now = time.monotonic()
        self._paused_until = now + _PAUSE
        with self.lock:
            for stream in streams:
                stream.start_over()
                if not stream.queued:
                    stream.queued = True
                    self._dirty.append(stream)
        for stream in streams:
            if now - stream.last_answer > _GIVE_UP_AFTER:
                stream.lost = True
                stream.call.cancel("lease")


def _due(stream: Stream) -> float:
    """When the stream's text is to be reported, by the monotonic clock; the first text at once."""
    return stream.last_report + REPORT_INTERVAL if stream.reported else 0.0
