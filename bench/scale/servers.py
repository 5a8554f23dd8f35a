"""How evenly the product's own choice of model servers (`worker/models/balancer.py`) spreads the calls of workers."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass

from bench.scale.outcome import imbalance
from chatbot.worker.models.answers.piece import Pieces
from chatbot.worker.models.balancer import BalancedModel, _BalancedServer
from chatbot.worker.models.base import Model
from chatbot.worker.models.call import Call
from chatbot.worker.prompts import PromptMessage

#: Seconds of a reply, its standard deviation, and between two samples.
_REPLY, _SPREAD, _SAMPLE = 2.0, 0.6, 0.5
#: Samples that are left out, as all calls begin together.
_FIRST = 10


class _Nowhere(Model):
    """A server that is chosen, and never called."""

    def generate(self, conversation: Sequence[PromptMessage], call: Call) -> Pieces:
        raise NotImplementedError


class _Others:
    """The calls of the other workers, as they were read last: in place of the product's exchange by Redis."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}

    def others(self) -> dict[str, int]:
        return self.calls

    def begun(self) -> None:
        """Nothing to publish."""


class _Choice(BalancedModel):
    """One worker's choice, with the calls of others as far as it knows them."""

    def __init__(self, servers: int) -> None:
        super().__init__({f"http://model-{n}:8000/v1": _Nowhere() for n in range(servers)}, 30)
        self.known = _Others()
        self._shared = self.known  # type: ignore[assignment]
        self.read_at = 0.0

    @property
    def calls(self) -> list[int]:
        return [server.calls for server in self._servers]

    def read(self, choices: Sequence[_Choice]) -> None:
        """Notes the calls of all others."""
        sums = [sum(column) for column in zip(*(c.calls for c in choices), strict=True)]
        self.known.calls = {server.name: n - server.calls for server, n in zip(self._servers, sums, strict=True)}

    def start(self, call: Call) -> _BalancedServer:
        server = self._start(set(), call)
        assert server is not None
        return server

    def home(self, session: str) -> _BalancedServer:
        return min(self._servers, key=lambda server: server.rank(session))


@dataclass(frozen=True)
class Crowd:
    """`workers` with `calls` in progress each, all the time."""

    workers: int
    calls: int
    servers: int
    #: Seconds between two readings of what all workers count; None without any, as where Redis is away; 0 for always.
    reading: float | None = None
    seconds: float = 200.0


@dataclass(frozen=True)
class Balance:
    """What was found of a crowd."""

    crowd: Crowd
    #: The busiest server's calls as a multiple of the mean, at each sample.
    imbalances: tuple[float, ...]
    #: The share of calls that went to the first server of their session; None where it is not known.
    at_home: float | None

    @property
    def above(self) -> float:
        """The share of the samples in which a server had more than 1.3 times the mean."""
        return sum(found > 1.3 for found in self.imbalances) / len(self.imbalances)


def balance(crowd: Crowd, seed: int) -> Balance:
    """Each call is of a session chosen at random; another one follows it."""
    chance = random.Random(seed)
    choices = [_Choice(crowd.servers) for _ in range(crowd.workers)]
    names = [f"{chance.getrandbits(128):032x}" for _ in range(8 * crowd.workers * crowd.calls)]
    found: list[float] = []
    home = total = 0
    heap: list[tuple[float, int, _Choice, tuple[_BalancedServer, Call] | None]] = [
        (chance.uniform(0, _REPLY), n, choices[n % crowd.workers], None) for n in range(crowd.workers * crowd.calls)
    ]
    heapq.heapify(heap)
    sample, count = _SAMPLE, len(heap)
    while heap[0][0] < crowd.seconds:
        now, _, choice, ended = heapq.heappop(heap)
        while now >= sample:
            found.append(imbalance([sum(column) for column in zip(*(c.calls for c in choices), strict=True)]))
            sample += _SAMPLE
        if ended is not None:
            ended[0].end(ended[1])
        if crowd.reading is not None and now >= choice.read_at:
            choice.read(choices)
            choice.read_at = now + crowd.reading
        call = Call(60, "", chance.choice(names))
        server = choice.start(call)
        home, total, count = home + (server is choice.home(call.session)), total + 1, count + 1
        heapq.heappush(heap, (now + max(chance.gauss(_REPLY, _SPREAD), 0.2), count, choice, (server, call)))
    return Balance(crowd, tuple(found[_FIRST:]), home / total)
