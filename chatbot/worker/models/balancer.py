"""One model on several servers: a session stays with one; a circuit breaker for each skips a failing one for a while.

A server caches the beginning of a prompt, so the next turn of a session costs least where the last one was generated.
Rendezvous hashing (Thaler and Ravishankar, 1998) chooses the server: all workers agree, and when a server fails only
its sessions move. Bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2016) keep the choice from overloading one, with
the calls of all workers as far as they are known. The circuit breaker pattern is Michael Nygard's, "Release It!".
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from hashlib import blake2b

import redis
from circuitbreaker import CircuitBreaker

from chatbot.worker.models.answers.piece import Pieces
from chatbot.worker.models.base import Model
from chatbot.worker.models.call import Call
from chatbot.worker.models.errors import CallCancelled, ModelError, ModelLoading, RequestRefused, TransientModelError
from chatbot.worker.models.http.endpoint import public_address
from chatbot.worker.models.shared_calls import SharedCalls
from chatbot.worker.prompts import PromptMessage

logger = logging.getLogger(__name__)

#: Failures that open a breaker. One is enough: there is another server, and the next success closes the breaker.
_FAILURE_THRESHOLD = 1
#: Calls in progress on one server, as multiples of the mean, from which on no session's call goes there, and from which
#: on some do not: each session has its own bound in between. So workers, which know each other's calls a moment later,
#: do not all avoid a server at once. With its own calls alone a worker takes the first.
_MAX_LOAD, _HIGH_LOAD = 1.25, 1.05


class BalancedModel(Model):
    """Calls the server that the session's id ranks first, unless too many calls are in progress there.

    A call without a session goes to the server with the fewest calls, the one listed first among equals.

    A call whose server fails before its first chunk goes to the next server. A failure after that is raised, so that
    no text comes twice.
    """

    continues = True

    def __init__(
        self, models: Mapping[str, Model], rest: float, client: Callable[[], redis.Redis] | None = None
    ) -> None:
        """`models` by URL; a failing one is skipped for `rest` seconds. The calls of other processes are read
        from the Redis of `client`, if any."""
        self._servers = [_BalancedServer(public_address(url), model, rest) for url, model in models.items()]
        self._lock = threading.Lock()
        self.in_loop = all(model.in_loop for model in models.values())
        self._shared = SharedCalls(client, self._own_calls) if client else None

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
            server = min(untried, key=self._order(call, untried))
            server.start(call)
        if self._shared:
            self._shared.begun()
        return server

    def _order(
        self, call: Call, servers: Sequence[_BalancedServer]
    ) -> Callable[[_BalancedServer], tuple[bool, float, bool, int]]:
        others = self._shared.others() if self._shared else {}
        loads = {server: server.calls + others.get(server.name, 0) for server in servers}
        # A server that is skipped shares no load.
        working = [load for server, load in loads.items() if not server.skipped] or list(loads.values())
        bound = _bound(call.session) if others else _MAX_LOAD
        most = math.ceil(bound * (sum(working) + 1) / len(working))

        def order(server: _BalancedServer) -> tuple[bool, float, bool, int]:
            load = loads[server]
            rank = server.rank(call.session) if call.session else load
            return server.skipped, server.breaker.open_remaining if server.skipped else 0, load >= most, rank

        return order

    def _own_calls(self) -> dict[str, int]:
        return {server.name: server.calls for server in self._servers}


class _BalancedServer:
    def __init__(self, name: str, model: Model, rest: float) -> None:
        self.model = model
        self._key = blake2b(name.encode(), digest_size=16).digest()
        #: Short, and the same in every process that has this address.
        self.name = self._key.hex()[:8]
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


def _bound(session: str) -> float:
    """The load, as a multiple of the mean, from which on the session's call goes to its next server."""
    place = blake2b(session.encode(), digest_size=1).digest()[0] / 255
    return _HIGH_LOAD + (_MAX_LOAD - _HIGH_LOAD) * place


def _retry_order(error: ModelError) -> tuple[bool, bool, float]:
    """The sort key of failures: the one that is likely to pass soonest comes first."""
    after = error.retry_after if isinstance(error, TransientModelError) and error.retry_after is not None else 0.0
    return not isinstance(error, TransientModelError), not isinstance(error, ModelLoading), after
