"""One thread that reads the streams of all model calls of a process.

A call is written as if it blocked, as a function that reads from the model server until the reply ends. It runs in a
greenlet of this thread; while it waits for bytes, other calls run. The thread that asked waits for the result alone, so
no thread wakes up for a token. libcurl takes HTTP apart and reports what arrived; one selector waits for all sockets.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import greenlet
import pycurl

logger = logging.getLogger(__name__)

#: Seconds between two checks of how long servers were silent.
_CHECK_INTERVAL = 0.05
#: Seconds to wait for an event at most: a bound, should libcurl forget a timer.
_LONGEST_WAIT = 1.0
#: Seconds between two looks for events at most, and for each transfer: what comes meanwhile is read together. Of a few
#: transfers each event is read at once.
_PAUSE, _PAUSE_PER_TRANSFER, _FEW = 0.005, 0.00002, 10
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_EVENTS = {pycurl.POLL_IN: _READ, pycurl.POLL_OUT: _WRITE, pycurl.POLL_INOUT: _READ | _WRITE}

T = TypeVar("T")


class Transfer(Protocol):
    """A request under way. The loop calls these methods, in its thread."""

    easy: Any

    def finished(self, code: int) -> None:
        """The transfer ended, with a code of libcurl."""

    def resume(self) -> None:
        """Continues the greenlet that waits for what arrived or ended."""

    def check_times(self, now: float) -> None:
        """Compares the times with their limits; `now` is monotonic."""


class _Visit:
    """A function that runs in the loop's thread for a thread that waits."""

    def __init__(self, work: Callable[[], Any]) -> None:
        #: What the waiting thread is to run; None at the end.
        self.inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self.value: Any = None
        self.error: BaseException | None = None
        self._work = work
        self._context = copy_context()

    def begin(self) -> None:
        """Called in the loop's thread, whose greenlet becomes the parent."""
        found = greenlet.greenlet(self._run)
        found.gr_context = self._context
        found.visit = self
        found.switch()

    def _run(self) -> None:
        try:
            self.value = self._work()
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            self.error = error
        self.inbox.put(None)


class ModelLoop:
    """Runs model calls. Thread-safe, except where a method says that it is for the loop's own thread."""

    def __init__(self, max_connections: int) -> None:
        """`max_connections` that are idle are kept open."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._posted: deque[Callable[[], None]] = deque()
        self._woken = False
        self._wakes, self._waker = socket.socketpair()
        for end in (self._wakes, self._waker):
            end.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wakes, _READ)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, max_connections)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._timer: float | None = None
        self._transfers: dict[Any, Transfer] = {}
        self._ready: dict[Transfer, None] = {}
        self._afterwards: list[Callable[[], Any]] = []
        self._next_check = 0.0
        self._hub: greenlet.greenlet
        #: The monotonic time at which the last events came.
        self.now = time.monotonic()

    def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, which runs in the loop's thread. It must not block but in a transfer or `outside`."""
        visit = _Visit(work)
        self.post(visit.begin)
        while (aside := visit.inbox.get()) is not None:
            aside()
        if visit.error is None:
            return visit.value  # type: ignore[no-any-return]
        try:
            raise visit.error
        finally:
            # The traceback refers to this frame.
            del visit

    def outside(self, work: Callable[[], T]) -> T:
        """The result of `work`, which may block: it runs in the thread that waits for this call. Call it in a call."""
        call = greenlet.getcurrent()
        outcome: list[Any] = []

        def aside() -> None:
            try:
                outcome.extend((work(), None))
            except BaseException as error:  # noqa: BLE001 - raised in the call
                outcome.extend((None, error))
            self.post(call.switch)

        call.visit.inbox.put(aside)
        self.pause()
        value, error = outcome
        if error is not None:
            raise error
        return value  # type: ignore[no-any-return]

    def post(self, step: Callable[[], Any]) -> None:
        """Runs `step` in the loop's thread, soon."""
        self._posted.append(step)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="model-streams", daemon=True)
                self._thread.start()
            woken, self._woken = self._woken, True
        if not woken:
            with contextlib.suppress(BlockingIOError):
                self._waker.send(b"x")

    # In the loop's own thread

    def pause(self) -> None:
        """Returns once something switches to the present greenlet: other calls run meanwhile."""
        self._hub.switch()

    def add(self, transfer: Transfer) -> None:
        """Starts a transfer. Raises `pycurl.error`."""
        self._multi.add_handle(transfer.easy)
        self._transfers[transfer.easy] = transfer

    def remove(self, transfer: Transfer) -> None:
        """Forgets a transfer; the connection of one that has not finished is closed."""
        if self._transfers.pop(transfer.easy, None) is not None:
            self._multi.remove_handle(transfer.easy)

    def ready(self, transfer: Transfer) -> None:
        """Resumes the transfer's greenlet after the present events: not within a callback of libcurl."""
        self._ready[transfer] = None

    def check_within(self, seconds: float) -> None:
        """Has the transfers check their times again after `seconds`."""
        self._next_check = min(self._next_check, self.now + seconds)

    def after_step(self, step: Callable[[], Any]) -> None:
        """Runs `step` once all calls that have something to read now have read it."""
        self._afterwards.append(step)

    def _run(self) -> None:
        self._hub = greenlet.getcurrent()
        while True:
            try:
                self._step()
            except Exception:
                # The other calls must go on.
                logger.exception("reading from the model servers failed")

    def _step(self) -> None:
        if len(self._transfers) > _FEW:
            time.sleep(min(_PAUSE_PER_TRANSFER * len(self._transfers), _PAUSE))
        events = self._selector.select(self._wait())
        self.now = time.monotonic()
        for key, mask in events:
            if key.fileobj is self._wakes:
                self._clear_wake()
            else:
                flags = (pycurl.CSELECT_IN if mask & _READ else 0) | (pycurl.CSELECT_OUT if mask & _WRITE else 0)
                self._multi.socket_action(key.fd, flags)
        while self._posted:
            self._posted.popleft()()
        if self._timer is not None and self._timer <= time.monotonic():
            self._timer = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._finish()
        if self.now >= self._next_check:
            self._next_check = self.now + _CHECK_INTERVAL
            for transfer in list(self._transfers.values()):
                transfer.check_times(self.now)
        while self._ready:
            ready, self._ready = self._ready, {}
            for transfer in ready:
                transfer.resume()
        afterwards, self._afterwards = self._afterwards, []
        for step in afterwards:
            step()

    def _wait(self) -> float:
        if not self._transfers:
            return _LONGEST_WAIT
        until = self._next_check if self._timer is None else min(self._next_check, self._timer)
        return max(until - time.monotonic(), 0)

    def _clear_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wakes.recv(64)
        with self._lock:
            self._woken = False

    def _finish(self) -> None:
        left = 1
        while left:
            left, done, failed = self._multi.info_read()
            for easy, code in [*((easy, 0) for easy in done), *((easy, code) for easy, code, _ in failed)]:
                transfer = self._transfers.get(easy)
                if transfer is not None:
                    self.remove(transfer)
                    transfer.finished(code)

    def _watch(self, what: int, fd: int, *_: Any) -> None:
        """Called by libcurl with the events for which it waits on a socket."""
        if what == pycurl.POLL_REMOVE:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(fd)
            return
        try:
            self._selector.modify(fd, _EVENTS[what])
        except KeyError:
            self._selector.register(fd, _EVENTS[what])

    def _set_timer(self, milliseconds: int) -> None:
        """Called by libcurl with the time after which it wants to be called; -1 for never."""
        self._timer = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000
