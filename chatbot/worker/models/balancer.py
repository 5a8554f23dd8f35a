"""One model on several servers: load is spread, and a server that fails is left alone for a while.

The circuit breaker pattern is Michael Nygard's, "Release It!"; the breaker itself is the `circuitbreaker` library's.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress

from circuitbreaker import CircuitBreaker

from chatbot.worker.models.base import Call, Model, Pieces
from chatbot.worker.models.errors import CallCancelled, ModelError, ModelLoading, RequestRefused, TransientModelError
from chatbot.worker.models.masking import address
from chatbot.worker.prompts import PromptMessage

logger = logging.getLogger(__name__)

#: One failure suffices: another server is there to be asked, and the next success closes the breaker.
_FAILURES = 1


class BalancedModel(Model):
    """Asks the server with the fewest calls in progress, the one listed first among equals.

    A call whose server fails before it has said anything goes to the next one. Once pieces are out the failure is
    the caller's to deal with, so that nothing is said twice.
    """

    def __init__(self, models: Mapping[str, Model], rest: float) -> None:
        """`models` by the address of each; `rest` in seconds: how long a failing one is left alone."""
        self._servers = [_Server(address(url), model, rest) for url, model in models.items()]
        self._lock = threading.Lock()

    def generate(self, conversation: Sequence[PromptMessage], call: Call) -> Pieces:
        failures: list[ModelError] = []
        tried: set[_Server] = set()
        while (server := self._take(tried, call)) is not None:
            tried.add(server)
            said = False
            try:
                with closing(server.model.generate(conversation, call)) as pieces:
                    for piece in pieces:
                        if not said:
                            said = True
                            server.works(call)
                        yield piece
                return
            except RequestRefused:
                server.works(call)
                raise
            except ModelError as error:
                server.fails(error)
                if said:
                    raise
                failures.append(error)
                if len(tried) < len(self._servers):
                    logger.warning("a model server failed, asking the next one: %s", error)
            except CallCancelled as cancelled:
                if cancelled.reason == "deadline" and not said:
                    server.fails(TransientModelError("timeout", "nothing was said before the deadline"))
                raise
            finally:
                with self._lock:
                    server.leave(call)
        raise min(failures, key=_hopelessness)

    def _take(self, tried: set[_Server], call: Call) -> _Server | None:
        """The server to ask next; resting ones only when no other is left, the longest rested first."""
        with self._lock:
            left = [s for s in self._servers if s not in tried]
            if not left:
                return None
            server = min(left, key=lambda s: (s.resting, s.breaker.open_remaining if s.resting else 0, s.calls))
            server.enter(call)
            return server


class _Server:
    def __init__(self, name: str, model: Model, rest: float) -> None:
        self.model = model
        self.breaker = CircuitBreaker(_FAILURES, rest, ModelError, name)
        #: Calls in progress.
        self.calls = 0
        #: The call that finds out whether the server is well again: until it has, others keep away.
        self._probe: Call | None = None

    @property
    def resting(self) -> bool:
        return self.breaker.opened or self._probe is not None

    def enter(self, call: Call) -> None:
        self.calls += 1
        if not self.breaker.closed:
            self._probe = call

    def leave(self, call: Call) -> None:
        self.calls -= 1
        if self._probe is call:
            self._probe = None

    def works(self, call: Call) -> None:
        """Ends the rest. Calls that began before it say nothing about the server now."""
        if self._probe is call:
            self.breaker.reset()
            self._probe = None

    def fails(self, error: ModelError) -> None:
        with suppress(ModelError), self.breaker:
            raise error


def _hopelessness(error: ModelError) -> tuple[bool, bool, float]:
    """What is told of several failures is what soonest passes."""
    after = error.retry_after if isinstance(error, TransientModelError) and error.retry_after is not None else 0.0
    return not isinstance(error, TransientModelError), not isinstance(error, ModelLoading), after
