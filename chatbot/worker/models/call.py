"""The handle of one model call: what it is for, its time limits, and how another thread ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from chatbot.sessions.leases import Assignment
from chatbot.worker.models.continuation import Continuation, Way
from chatbot.worker.models.errors import CallCancelled
from chatbot.worker.models.event_loop import ModelLoop


class Call:
    """One model call, which another thread can end: at a user's request, or at the deadline.

    Ending closes the connection: the model server sees that, and can stop generating.
    """

    def __init__(
        self,
        timeout: float,
        request_id: str = "",
        session: str = "",
        *,
        loading_timeout: float = 0.0,
        assignment: Assignment | None = None,
    ) -> None:
        """Times in seconds: the reply may take `timeout` from its first token on, which may take `loading_timeout` or
        `timeout`, whichever is longer.

        The model server gets `request_id`, if any, for its log. Calls of one `session` go to one server as far as
        possible.
        """
        self.session = session
        #: The request that is answered; None for a question of `model-check`.
        self.assignment = assignment
        self.request_id = request_id
        #: What the model server gets as the parent of its spans; '' without traces.
        self.traceparent = ""
        #: The address of the server that was asked last.
        self.server = ""
        self.deadline = time.monotonic() + max(timeout, loading_timeout)
        #: What the request asks of the model, see protocol/openai/options.py; None for one that leaves all to settings.
        self.options: Mapping[str, Any] | None = None
        #: Tokens of the reply that were generated before: they count towards its limit.
        self.generated = 0
        #: For each server the ways to continue a reply that it has refused in this call.
        self.refused: dict[Continuation, set[Way]] = {}
        #: Whether the first token has arrived.
        self.begun = False
        #: Set where another server can be asked: this one gets no time to load.
        self.impatient = False
        #: The loop in whose thread the call runs, if it does: see event_loop.py.
        self.loop: ModelLoop | None = None
        #: Returns once more of the answer has arrived, or the call has ended. Reading waits by itself, too.
        self.wait_for_more: Callable[[], None] = _return_at_once
        self._timeout, self._loading_timeout = timeout, loading_timeout
        self._lock = threading.Lock()
        self._end: Callable[[], None] | None = None
        self._reason: str | None = None

    @property
    def first_limit(self) -> str:
        """The setting that the deadline of the first token comes from, and its value, for people."""
        if self._loading_timeout >= self._timeout:
            return f"MODEL_LOADING_TIMEOUT, {self._loading_timeout:g} s"
        return f"MODEL_TIMEOUT, {self._timeout:g} s"

    @property
    def cancelled(self) -> str | None:
        """The reason for which the call was ended, or None."""
        return self._reason

    def cancel(self, reason: str) -> None:
        """Ends the call; the first reason given stays."""
        with self._lock:
            self._reason = self._reason or reason
            if self._end is not None:
                self._end()

    def on_cancel(self, end: Callable[[], None]) -> None:
        """Sets what ends the call from now on, in any thread, without blocking. Raises `CallCancelled`."""
        with self._lock:
            self._end = end
            if self._reason is not None:
                end()
        self.check()

    def begin(self) -> None:
        """Notes the first token: from now on the reply may take `timeout`."""
        if not self.begun:
            self.begun = True
            self.deadline = time.monotonic() + self._timeout

    def done(self) -> None:
        """Forgets the connection, which goes back to the pool: cancelling no longer ends it."""
        with self._lock:
            self._end = None
        self.wait_for_more = _return_at_once

    def check(self) -> None:
        """Raises `CallCancelled` if the call has been ended."""
        if self._reason is not None:
            raise CallCancelled(self._reason)


def _return_at_once() -> None:
    """Waits for nothing: a thread reads the answer, or it has no connection."""
