"""The open streams of a worker process: reports all its replies in progress to Redis.

One round trip reports the new text of many replies: it stores and publishes the text, renews the leases and reads the
stop flags. A model loop reports what is due when it is read, without waking a thread. A thread reports the rest, renews
leases without new text, and ends model calls that are stopped, past their deadline, or without a lease.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import greenlet

from chatbot.errors import StoreUnavailable
from chatbot.sessions.leases import LEASE, Assignment, Leases, Progress
from chatbot.telemetry.counters import REPORT_FAILURES, WORKER_REDIS_ERRORS, Counts
from chatbot.worker.models.call import Call
from chatbot.worker.models.event_loop import current_loop
from chatbot.worker.report_pace import ReportPace
from chatbot.worker.stream import Stream

logger = logging.getLogger(__name__)

#: Seconds between two rounds of the thread at most, and for each reply in progress: what becomes due meanwhile goes
#: together. A round costs as much as the reports of ten replies.
_ROUND, _ROUND_PER_STREAM = 0.01, 0.0005
#: Seconds between two checks of leases and deadlines; without replies in progress there is none until the next begins.
_CHECK_INTERVAL, _NO_CHECK = 0.25, 3600.0
#: Seconds between two reports while Redis does not answer.
_PAUSE = 0.5
#: Seconds without Redis after which a reply in progress is given up: its lease has long expired by then.
_GIVE_UP_AFTER = 60.0


class OpenStreams:
    """The replies in progress of this process, and what reports them."""

    def __init__(self, leases: Leases, counts: Counts | None = None, *, in_loop: bool = False) -> None:
        """`in_loop`: the replies' model loop reports too, as `Leases.progress` does not block it."""
        self._leases = leases
        self._in_loop = in_loop
        self._counts = counts or Counts()
        self.lock = threading.Lock()
        self._changed = threading.Condition(self.lock)
        self._open: dict[str, Stream] = {}
        #: Streams with unreported text.
        self._dirty: list[Stream] = []
        #: Streams to which text was added in the present step of the model loop, in whose thread this is used.
        self._added: list[Stream] = []
        self._thread: threading.Thread | None = None
        self._paused_until = 0.0
        self.pace = ReportPace()
        # When the last round began, when leases are checked next, and when the thread wakes up.
        self._last_round = self._next_check = self._wakes_at = 0.0
        # Notifies the threads that wait for the end of a report, and what continues the replies of a loop that do.
        self._report_ended = threading.Condition(self.lock)
        self._closing: list[tuple[Stream, Callable[[], None]]] = []

    def open(self, assignment: Assignment, call: Call) -> Stream:
        """Renews the lease of a reply from here to `close`.

        Of two claims of one session only the later one still holds the lease: the call of the other one is cancelled.
        """
        stream = Stream(assignment, call, self.lock, self.enqueue)
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
                self._next_check = 0.0
                self._thread = threading.Thread(target=self._run, name="streams", daemon=True)
                self._thread.start()
            elif self._next_check > (check := time.monotonic() + _CHECK_INTERVAL):
                self._next_check = check
                self._wake_by(check)
        return stream

    def close(self, stream: Stream) -> None:
        """Ends the stream; no report of it is under way once this returns."""
        with self._changed:
            if self._open.get(stream.assignment.session) is stream:
                del self._open[stream.assignment.session]
            loop = current_loop()
            if loop is None:
                self._report_ended.wait_for(lambda: not stream.in_report)
            if loop is None or not stream.in_report:
                return
            self._closing.append((stream, partial(loop.post, greenlet.getcurrent().switch)))
        loop.pause()

    def last_report(self, stream: Stream) -> Progress:
        """What is new in a closed stream since its last report."""
        with self.lock:
            return stream.report()

    def stop(self, session: str, request: str) -> None:
        """Ends the model call of the reply to a request, if this process makes it; for '' to any of the session."""
        with self.lock:
            stream = self._open.get(session)
        if stream is not None and request in ("", stream.assignment.message_id):
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
        """Marks a stream as having text to report; in a model loop, once all that arrived together was read."""
        loop = stream.call.loop
        if loop is None:
            self._mark([stream])
        elif not stream.added:
            stream.added = True
            if not self._added:
                loop.after_step(self._mark_added)
            self._added.append(stream)

    def _mark_added(self) -> None:
        added, self._added = self._added, []
        for stream in added:
            stream.added = False
        # A short reply may have ended with what was read: then its commit alone publishes it.
        added = [stream for stream in added if not stream.ended]
        loop = added[0].call.loop if added and self._in_loop else None
        if loop is None:
            self._mark(added)
        elif self._mark(added, until=time.monotonic()):
            loop.begin(self._report_in_loop)

    def _mark(self, streams: Sequence[Stream], until: float = -math.inf) -> bool:
        """Has the text of these reported. Returns whether some of it is due `until` then, which the caller reports."""
        with self._changed:
            new = [stream for stream in streams if not stream.queued]
            self._dirty += new
            for stream in new:
                stream.queued = True
            times = [self._due(stream) for stream in new]
            self._wake_by(min((due for due in times if due > until), default=math.inf))
            return any(due <= until for due in times)

    def _wake_by(self, due: float) -> None:
        """Wakes the thread at that time, if it would sleep for longer. The caller holds the lock."""
        if due < self._wakes_at:
            self._wakes_at = due
            self._changed.notify()

    def _report_in_loop(self) -> None:
        """Reports what is due, in the loop's thread."""
        while (now := time.monotonic()) >= self._paused_until and self._report(now):
            self.pace.adapt(time.monotonic() - now)

    def _run(self) -> None:
        while True:
            with self._changed:
                due = max(min(map(self._due, self._dirty), default=self._next_check), self._paused_until)
                self._wakes_at = min(due, self._next_check)
                while (wait := self._wakes_at - time.monotonic()) > 0:
                    self._changed.wait(wait)
                now = time.monotonic()
                # Until the next wait, none has to wake this thread.
                planned, self._wakes_at = self._wakes_at, 0.0
            try:
                if now >= self._next_check:
                    self._check(now)
                if now >= self._paused_until and self._report(now) and planned:
                    self.pace.adapt(time.monotonic() - planned)
            except Exception:
                # The leases of the other replies must still be renewed.
                logger.exception("reporting replies in progress failed")

    def _check(self, now: float) -> None:
        with self.lock:
            streams = list(self._open.values())
            self._next_check = now + (_CHECK_INTERVAL if streams else _NO_CHECK)
        for stream in streams:
            if now >= stream.call.deadline:
                stream.call.cancel("deadline")
            with self.lock:
                if stream.renewal_due(now) and not stream.queued:
                    stream.queued = True
                    self._dirty.append(stream)

    def _due(self, stream: Stream) -> float:
        """When the stream's text is to be reported, by the monotonic clock: the first at once, one report at a time."""
        if stream.in_report:
            return math.inf
        if not stream.reported:
            return 0.0
        # A loop reads many together, which makes a round.
        spacing = 0.0 if self._in_loop else min(_ROUND_PER_STREAM * len(self._open), _ROUND)
        return max(stream.last_report + self.pace.interval, self._last_round + spacing)

    def _report(self, now: float) -> bool:
        """Reports what is due; whether there was something."""
        ready, reports = self._due_reports(now)
        if not ready:
            return False
        try:
            answers = self._leases.progress(reports)
        except StoreUnavailable as error:
            self._counts.add(WORKER_REDIS_ERRORS)
            self._counts.add(REPORT_FAILURES, amount=len(ready))
            logger.warning("replies that could not be reported: %d: %s", len(ready), error)
            self._requeue(ready)
            return False
        except Exception:
            self._requeue(ready)
            raise
        finally:
            self._reported(ready)
        self._requeue([s for s, answer in zip(ready, answers, strict=True) if answer == "unavailable"])
        for stream, answer in zip(ready, answers, strict=True):
            if answer == "unavailable":
                continue
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
                self._mark([stream])
        return True

    def _reported(self, streams: Sequence[Stream]) -> None:
        """The report of these has ended: what waits for that goes on."""
        with self.lock:
            for stream in streams:
                stream.in_report = False
            ended = [go_on for stream, go_on in self._closing if not stream.in_report]
            self._closing = [each for each in self._closing if each[0].in_report]
            due = max(min(map(self._due, self._dirty), default=math.inf), self._paused_until)
            if due > time.monotonic() or current_loop() is None:
                # What is due already is reported next, in the same thread.
                self._wake_by(due)
            self._report_ended.notify_all()
        for go_on in ended:
            go_on()

    def _due_reports(self, now: float) -> tuple[list[Stream], list[Progress]]:
        """The streams that are to be reported now, and their reports."""
        with self.lock:
            ready: list[Stream] = []
            later: list[Stream] = []
            for stream in self._dirty:
                (ready if self._due(stream) <= now else later).append(stream)
            if not ready:
                return [], []
            self._dirty, self._last_round = later, now
            for stream in ready:
                stream.queued = False
            ready = [s for s in ready if self._open.get(s.assignment.session) is s and not s.lost]
            for stream in ready:
                stream.in_report = True
            return ready, [s.report() for s in ready]

    def _requeue(self, streams: list[Stream]) -> None:
        """Reports the whole texts again after a pause, as the outcome of the last report is unknown."""
        if not streams:
            return
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
