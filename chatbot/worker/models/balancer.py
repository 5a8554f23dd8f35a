"""One model on several servers: a session stays with one; a circuit breaker for each skips a failing one for a while.

A server caches the beginning of a prompt, so the next turn of a session costs least where the last one was generated.
Rendezvous hashing (Thaler and Ravishankar, 1998) chooses the server without any shared state: all workers agree, and
when a server fails only its sessions move. Bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2016) keep the choice
from overloading one. The circuit breaker pattern is Michael Nygard's, "Release It!".
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from hashlib import blake2b

from circuitbreaker import CircuitBreaker

from chatbot.worker.models.answers.piece import Pieces
from chatbot.worker.models.base import Model
from chatbot.worker.models.call import Call
from chatbot.worker.models.errors import CallCancelled, ModelError, ModelLoading, RequestRefused, TransientModelError
from chatbot.worker.models.http.endpoint import public_address
from chatbot.worker.prompts import PromptMessage

logger = logging.getLogger(__name__)

#: Failures that open a breaker. One is enough: there is another server, and the next success closes the breaker.
_FAILURE_THRESHOLD = 1
#: Calls in progress on one server, as a multiple of the mean, above which a session goes to its next server.
_MAX_LOAD = 1.25


class BalancedModel(Model):
    """Calls the server that the session's id ranks first, unless this process has too many calls in progress there.

    A call without a session goes to the server with the fewest calls, the one listed first among equals.

    A call whose server fails before its first chunk goes to the next server. A failure after that is raised, so that
    no text comes twice.
    """

    continues = True

    def __init__(self, models: Mapping[str, Model], rest: float) -> None:
        """`models` by URL; a failing one is skipped for `rest` seconds."""
        self._servers = [_BalancedServer(public_address(url), model, rest) for url, model in models.items()]
        self._lock = threading.Lock()
        self.in_loop = all(model.in_loop for model in models.values())

    def generate(self, conversation: Sequence[PromptMessage], call: Call) -> Pieces:
        failures: list[ModelError] = []
        tried: set[_BalancedServer] = set()
        while (server := self._start(tried, call)) is not None:
            tried.add(server)
            begun = False
            # The last one gets the time that a server may need to load the model.
            call.impatient = len(tried) < len(self._servers)
            try:
                with closing(server.model.generate(conversation, call)) as pieces:
                    for piece in pieces:
                        if not begun:
                            begun = True
                            server.succeeded(call)
                        yield piece
                return
            except RequestRefused:
                server.succeeded(call)
                raise
            except ModelError as error:
                server.failed(error)
                if begun:
                    raise
                failures.append(error)
                if len(tried) < len(self._servers):
                    logger.warning("a model server failed, trying the next one: %s", error)
            except CallCancelled as cancelled:
                if cancelled.reason == "deadline" and not begun:
                    server.failed(TransientModelError("timeout", "no text before the deadline"))
                raise
            finally:
                with self._lock:
                    server.end(call)
        raise min(failures, key=_retry_order)

    def _start(self, tried: set[_BalancedServer], call: Call) -> _BalancedServer | None:
        """Starts the call on the next server; skipped ones come last, the longest skipped first."""
        with self._lock:
            untried = [s for s in self._servers if s not in tried]
            if not untried:
                return None
            server = min(untried, key=self._order(call))
            server.start(call)
            return server

    def _order(self, call: Call) -> Callable[[_BalancedServer], tuple[bool, float, bool, int]]:
        total = sum(server.calls for server in self._servers) + 1
        most = math.ceil(_MAX_LOAD * total / len(self._servers))

        def order(server: _BalancedServer) -> tuple[bool, float, bool, int]:
            rank = server.rank(call.session) if call.session else server.calls
            return server.skipped, server.breaker.open_remaining if server.skipped else 0, server.calls >= most, rank

        return order


class _BalancedServer:
    def __init__(self, name: str, model: Model, rest: float) -> None:
        self.model = model
        self._key = blake2b(name.encode(), digest_size=16).digest()
        self.breaker = CircuitBreaker(_FAILURE_THRESHOLD, rest, ModelError, name)
        #: Calls in progress.
        self.calls = 0
        #: The call that finds out whether the server works again; until then other calls avoid the server.
        self._probe: Call | None = None

    @property
    def skipped(self) -> bool:
        return self.breaker.opened or self._probe is not None

    def rank(self, session: str) -> int:
        """Pseudo-random for each pair of server and session, and the same in every process: the lowest is chosen."""
        return int.from_bytes(blake2b(session.encode(), key=self._key, digest_size=8).digest())

    def start(self, call: Call) -> None:
        self.calls += 1
        if not self.breaker.closed:
            self._probe = call

    def end(self, call: Call) -> None:
        self.calls -= 1
        if self._probe is call:
            self._probe = None

    def succeeded(self, call: Call) -> None:
        """Closes the breaker after a successful probe. Other calls may have begun before the failure."""
        if self._probe is call:
            self.breaker.reset()
            self._probe = None

    def failed(self, error: ModelError) -> None:
        with suppress(ModelError), self.breaker:
            raise error


def _retry_order(error: ModelError) -> tuple[bool, bool, float]:
    """The sort key of failures: the one that is likely to pass soonest comes first."""
    after = error.retry_after if isinstance(error, TransientModelError) and error.retry_after is not None else 0.0
    return not isinstance(error, TransientModelError), not isinstance(error, ModelLoading), after
