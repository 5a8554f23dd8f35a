"""What a fault is inflicted on, and whose replies it strikes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from devtools.chaos.crowd import Crowd
from devtools.chaos.user import TrackedMessage
from devtools.fake_model import ModelServer
from devtools.harness.deployment import Deployment, Process

#: Seconds for Redis to notice that the connections of a killed process are closed.
_CLOSED = 0.05

Kind = TypeVar("Kind", bound=Deployment)


class Owed(NamedTuple):
    """A message whose reply is in progress or owed."""

    message: TrackedMessage
    #: The web process of its user's socket.
    url: str
    #: The channel of the worker that holds the lease; '' when none does.
    owner: str
    session: str


@dataclass
class Scene(Generic[Kind]):
    """A running chat, its model server, and the users who talk meanwhile."""

    chat: Kind
    model: ModelServer
    crowd: Crowd
    #: How often the fault was inflicted before.
    round: int = 0

    def owed(self) -> list[Owed]:
        """The messages whose replies are in progress or owed now, as Redis has it."""
        waiting = [(user, message) for user in self.crowd.users if (message := user.waiting)]
        found = []
        for user, message in waiting:
            partition = self.chat.partitions.of(user.session)
            with partition.client.pipeline(transaction=False) as pipeline:
                pipeline.get(partition.keys(user.session).lease)
                pipeline.hget(partition.keys(user.session).state, "owed")
                owner, owed = pipeline.execute()
            if owed:
                found.append(Owed(message, user.url, owner or "", user.session))
        return found

    def strike(self) -> None:
        """Records that a fault happens now: it strikes all replies that are in progress or owed."""
        self.crowd.mark_fault(owed.message for owed in self.owed())

    def kill_worker(self, worker: Process) -> None:
        """SIGKILL of a worker, which strikes the replies whose leases it holds; another is started in its place."""
        owed = self.owed()
        worker.kill()
        at = time.monotonic()
        time.sleep(_CLOSED)
        owners = sorted({one.owner for one in owed if one.owner})
        counts = dict(self.chat.client.pubsub_numsub(*owners)) if owners else {}
        self.crowd.mark_fault((one.message for one in owed if one.owner and not counts[one.owner]), at)
        worker.start()
