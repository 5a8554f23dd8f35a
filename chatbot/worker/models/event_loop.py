"""One thread that runs all replies of a process, and reads the streams of their models.

A reply is written as if it blocked. It runs in a greenlet of this thread; while it waits for the model server or for
Redis (`worker/pipelined_scripts.py`), other replies run. So no thread wakes up for a token or for an answer of Redis.
libcurl takes HTTP apart and reports what arrived; one selector waits for all sockets.
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
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

import greenlet
import pycurl

from chatbot.worker.models.gathering import FEW, Gathering
from chatbot.worker.models.transfer import Transfer

logger = logging.getLogger(__name__)

#: Seconds between two checks of how long servers were silent: each goes through all transfers.
_CHECK_INTERVAL = 0.25
#: Seconds to wait for an event at most: a bound, should libcurl forget a timer.
_LONGEST_WAIT = 1.0
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_EVENTS = {pycurl.POLL_IN: _READ, pycurl.POLL_OUT: _WRITE, pycurl.POLL_INOUT: _READ | _WRITE}

T = TypeVar("T")


class _Visit:
    """A function that runs in the loop's thread."""

    def __init__(self, loop: ModelLoop, work: Callable[[], Any], done: Callable[[_Visit], Any]) -> None:
        """`done` is called in the loop's thread at the end. It must not block."""
        self._loop = loop
        self.value: Any = None
        self.error: BaseException | None = None
        self._work = work
        self._done = done
        self._context = copy_context()

    def begin(self) -> None:
        """Called in the loop's thread, whose greenlet becomes the parent."""
        found = greenlet.greenlet(self._run)
        found.gr_context = self._context
        found.loop = self._loop
        found.switch()

    def _run(self) -> None:
        try:
            self.value = self._work()
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            self.error = error
        self._done(self)


class ModelLoop:
    """Runs model calls. Thread-safe, except where a method says that it is for the loop's own thread."""

    def __init__(self, slots: int) -> None:
        """`slots` is how many replies run at a time: so many connections that are idle are kept open."""
        self._helpers = ThreadPoolExecutor(slots, "model-helper")
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
        self._multi.setopt(pycurl.M_MAXCONNECTS, slots)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._timer: float | None = None
        self._transfers: dict[Any, Transfer] = {}
        #: Sockets of connections that had a response, by their local address.
        self.sockets: dict[tuple[str, int], int] = {}
        self._ready: dict[Transfer, None] = {}
        self.gathering = Gathering(self._selector)
        self._afterwards: list[Callable[[], Any]] = []
        self._next_check = 0.0
        #: Called in the loop's thread with the monotonic time, each second at least. They must not block.
        self.checks: list[Callable[[float], None]] = []
        self._hub: greenlet.greenlet
        #: The monotonic time at which the last events came.
        self.now = time.monotonic()

    def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, which runs in the loop's thread. It must not block but in a transfer or `outside`."""
        ended = threading.Event()
        visit = _Visit(self, work, lambda _: ended.set())
        self.post(visit.begin)
        ended.wait()
        if visit.error is None:
            return visit.value  # type: ignore[no-any-return]
        try:
            raise visit.error
        finally:
            # The traceback refers to this frame.
            del visit

    def start(self, work: Callable[[], Any]) -> None:
        """Runs `work` like `run`, and does not wait for it. An exception is logged."""
        self.post(_Visit(self, work, _log_error).begin)

    def outside(self, work: Callable[[], T]) -> T:
        """The result of `work`, which may block: it runs in another thread. Call it in the loop's thread."""
        call = greenlet.getcurrent()
        try:
            ended = self._helpers.submit(copy_context().run, work)
        except RuntimeError:
            # The process ends, or has no more threads.
            return work()
        ended.add_done_callback(lambda _: self.post(call.switch))
        self.pause()
        return ended.result()

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

    def pause(self) -> Any:
        """Returns once something switches to the present greenlet, and what it gives: other calls run meanwhile."""
        return self._hub.switch()

    def begin(self, work: Callable[[], Any]) -> None:
        """Like `start`, but runs `work` at once until it waits. For a step of the loop, not for a call."""
        _Visit(self, work, _log_error).begin()

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

    def begun(self, transfer: Transfer) -> None:
        """Of many transfers, those that have begun are read at intervals: what arrives meanwhile is read together."""
        if len(self._transfers) > FEW:
            self.gathering.add(transfer.easy.getinfo(pycurl.ACTIVESOCKET))

    def read_at_once(self, transfer: Transfer) -> None:
        """Ends that."""
        self.gathering.remove(transfer.easy.getinfo(pycurl.ACTIVESOCKET))

    def check_within(self, seconds: float) -> None:
        """Has the transfers check their times again after `seconds`."""
        self._next_check = min(self._next_check, self.now + seconds)

    def watch(self, sock: socket.socket, on_event: Callable[[int], None], *, writing: bool = False) -> None:
        """Calls `on_event` with the selector's events while the socket can be read, or written to if `writing`."""
        events = _READ | _WRITE if writing else _READ
        try:
            self._selector.modify(sock, events, on_event)
        except KeyError:
            self._selector.register(sock, events, on_event)

    def forget(self, sock: socket.socket) -> None:
        """Ends `watch`."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(sock)

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
        with self._lock:
            # From here on a step that is posted has to wake this thread.
            self._woken = bool(self._posted)
        events = self._selector.select(0.0 if self._woken else self._wait())
        self._woken = True
        self.now = time.monotonic()
        for key, mask in events:
            if key.fileobj is self._wakes:
                self._clear_wake()
            elif key.data is not None:
                key.data(mask)
            else:
                flags = (pycurl.CSELECT_IN if mask & _READ else 0) | (pycurl.CSELECT_OUT if mask & _WRITE else 0)
                self._multi.socket_action(key.fd, flags)
        for descriptor in self.gathering.take_turn(self.now):
            self._multi.socket_action(descriptor, pycurl.CSELECT_IN)
        while self._posted:
            self._posted.popleft()()
        if self._timer is not None and self._timer <= time.monotonic():
            self._timer = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._finish()
        if self.now >= self._next_check:
            self._next_check = self.now + _CHECK_INTERVAL
            self._check_times()
        while self._ready:
            ready, self._ready = self._ready, {}
            for transfer in ready:
                transfer.resume()
        while self._afterwards:
            afterwards, self._afterwards = self._afterwards, []
            for step in afterwards:
                step()

    def _check_times(self) -> None:
        for transfer in list(self._transfers.values()):
            transfer.check_times(self.now)
        for check in self.checks:
            check(self.now)

    def _wait(self) -> float:
        if not self._transfers:
            return _LONGEST_WAIT
        until = self._next_check if self._timer is None else min(self._next_check, self._timer)
        if self.gathering:
            until = min(until, self.gathering.due)
        return max(until - time.monotonic(), 0)

    def _clear_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wakes.recv(64)

    def _finish(self) -> None:
        left = 1
        while left:
            left, done, failed = self._multi.info_read()
            for easy, code in [*((easy, 0) for easy in done), *((easy, code) for easy, code, _ in failed)]:
                transfer = self._transfers.get(easy)
                if transfer is not None:
                    transfer.ending()
                    self.remove(transfer)
                    transfer.finished(code)

    def _watch(self, what: int, fd: int, *_: Any) -> None:
        """Called by libcurl with the events for which it waits on a socket."""
        self.gathering.discard(fd)
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


def _log_error(visit: _Visit) -> None:
    if visit.error is not None:
        logger.error("what ran in the loop failed", exc_info=visit.error)


def current_loop() -> ModelLoop | None:
    """The loop in which the caller runs, as `run` and `start` have it."""
    return getattr(greenlet.getcurrent(), "loop", None)


def outside(work: Callable[[], T]) -> T:
    """The result of `work`, which may block: in a loop's thread, another thread runs it."""
    loop = current_loop()
    return work() if loop is None else loop.outside(work)
