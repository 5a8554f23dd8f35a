"""What happens to all replies in progress in a worker process, from one thread.

Pieces that models send are gathered and reported to Redis together, many replies in one round trip: the text is
kept, published, the leases renewed and the stop flags read. The same thread renews the leases of replies that have
nothing to say yet, and ends model calls that are stopped, out of time, or whose lease is lost.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from chatbot.errors import StoreUnavailable
from chatbot.protocol import frames
from chatbot.sessions.leases import LEASE, RENEW, Assignment, Leases, Progress
from chatbot.telemetry.counters import WORKER_REDIS_ERRORS, Counts
from chatbot.worker.models.base import Call

logger = logging.getLogger(__name__)

#: Seconds for which pieces are gathered. Below what an eye takes for smooth; the first piece of a reply does not
#: wait, and under load a round trip takes as long as it takes, which gathers more.
GATHER = 0.04
#: Seconds between two looks at leases and deadlines.
_TICK = 0.25
#: Seconds between two reports while Redis does not answer.
_PAUSE = 0.5
#: Seconds without Redis after which a reply in progress is given up: its lease has long gone by then.
_GIVE_UP_AFTER = 60.0


class Stream:
    """A reply in progress. `add` is called by the thread that reads the model's answer."""

    def __init__(self, streams: Streams, assignment: Assignment, call: Call) -> None:
        self.assignment = assignment
        self.call = call
        self.text = ""
        #: Set once Redis has said that somebody else speaks for the session.
        self.lost = False
        self._streams = streams
        # Below, guarded by the lock of `streams`. Offsets are in code points.
        self.reported = 0
        self.reported_bytes = 0
        self.last_report = time.monotonic()
        self.last_answer = self.last_report
        self.queued = False

    def add(self, text: str) -> None:
        """Says more."""
        if text:
            self.text += text
            self._streams.notice(self)

    def report(self) -> Progress:
        """What is new since the last report. The lock is held."""
        text = self.text
        offset, self.reported = self.reported, len(text)
        byte_offset = self.reported_bytes
        self.last_report = time.monotonic()
        new = text[offset:]
        if not new:
            return Progress(self.assignment)
        self.reported_bytes += len(new.encode())
        return Progress(self.assignment, new, byte_offset, self._delta(offset, new))

    def last_delta(self) -> dict[str, Any] | None:
        """What was not reported before the stream was closed."""
        rest = self.text[self.reported :]
        return self._delta(self.reported, rest) if rest else None

    def _delta(self, offset: int, text: str) -> dict[str, Any]:
        return frames.delta(self.assignment.reply_id, self.assignment.message_id, offset, text)

    def start_over(self) -> None:
        """The next report holds the whole text. The lock is held."""
        self.reported = self.reported_bytes = 0


class Streams:
    """The replies in progress of this process."""

    def __init__(self, leases: Leases, counts: Counts | None = None) -> None:
        self._leases = leases
        self._counts = counts or Counts()
        self._lock = threading.Lock()
        self._noticed = threading.Condition(self._lock)
        self._open: dict[str, Stream] = {}
        #: Streams with unreported text.
        self._dirty: list[Stream] = []
        self._thread: threading.Thread | None = None
        self._paused_until = 0.0
        # Held during a round trip: a stream that is closed is in none that is still under way.
        self._reporting = threading.Lock()

    def open(self, assignment: Assignment, call: Call) -> Stream:
        """Keeps the lease of a reply alive from here to `close`."""
        stream = Stream(self, assignment, call)
        with self._noticed:
            self._open[assignment.session] = stream
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="streams", daemon=True)
                self._thread.start()
        return stream

    def close(self, stream: Stream) -> None:
        """From here on the stream reports nothing any more."""
        with self._noticed:
            if self._open.get(stream.assignment.session) is stream:
                del self._open[stream.assignment.session]
        with self._reporting:
            return

    def stop(self, session: str) -> None:
        """Ends the model call of the session's reply, if it is at one here."""
        with self._lock:
            stream = self._open.get(session)
        if stream is not None:
            stream.call.cancel("stop")

    def cancel_all(self, reason: str) -> int:
        """Ends all model calls; answers how many."""
        with self._lock:
            streams = list(self._open.values())
        for stream in streams:
            stream.call.cancel(reason)
        return len(streams)

    def __len__(self) -> int:
        return len(self._open)

    def reporting(self) -> bool:
        """Whether there is a reply in progress that has time left and that Redis heard of lately."""
        now = time.monotonic()
        with self._lock:
            return any(s.call.deadline > now and now - s.last_answer < LEASE / 1000 for s in self._open.values())

    def notice(self, stream: Stream) -> None:
        """The stream has something to report."""
        with self._noticed:
            if not stream.queued:
                stream.queued = True
                self._dirty.append(stream)
                self._noticed.notify()

    def _run(self) -> None:
        next_tick = 0.0
        while True:
            with self._noticed:
                now = time.monotonic()
                due = max(min((_due(s) for s in self._dirty), default=next_tick), self._paused_until)
                wait = min(due, next_tick) - now
                if wait > 0:
                    self._noticed.wait(wait)
                    now = time.monotonic()
            try:
                if now >= next_tick:
                    next_tick = now + _TICK
                    self._look_after(now)
                if now >= self._paused_until:
                    self._report(now)
            except Exception:
                # Whatever it was, the leases of the other replies must go on being renewed.
                logger.exception("reporting replies in progress failed")

    def _look_after(self, now: float) -> None:
        with self._lock:
            streams = list(self._open.values())
        for stream in streams:
            if now >= stream.call.deadline:
                stream.call.cancel("deadline")
            with self._lock:
                if now - stream.last_report >= RENEW / 1000 and not stream.queued:
                    stream.queued = True
                    self._dirty.append(stream)

    def _report(self, now: float) -> None:
        with self._reporting:
            with self._lock:
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
                logger.warning("%d replies could not be reported: %s", len(ready), error)
                self._take_back(ready)
                return
        for stream, answer in zip(ready, answers, strict=True):
            stream.last_answer = time.monotonic()
            if answer == "lost":
                stream.lost = True
                stream.call.cancel("lease")
            elif answer == "stop":
                stream.call.cancel("stop")
            elif answer == "behind":
                # Redis came back without the last it had been told.
                with self._lock:
                    stream.start_over()
                self.notice(stream)

    def _take_back(self, streams: list[Stream]) -> None:
        """Whether Redis took the reports is not known: each begins again with its whole text, after a pause."""
        now = time.monotonic()
        self._paused_until = now + _PAUSE
        with self._lock:
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
    """The time at which the stream's text is to be reported: at once if it said nothing for a while."""
    return stream.last_report + GATHER if stream.reported else 0.0
