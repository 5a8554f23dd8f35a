"""The small plan with real processes: the outcome that the simulation has to match."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, replace

from bench.scale.outcome import WINDOW, imbalance
from bench.scale.parts import Plan
from bench.scale.servers import Balance, Crowd
from devtools.chaos.arrivals import Arrivals
from devtools.fake_model import ModelServer
from devtools.harness.deployment import Deployment, eventually

#: Milliseconds until the model's first token, and between two.
_FIRST, _INTERVAL = 100, 380

#: Seconds of a reply of the model servers.
_REPLY = 2.0
#: Seconds of a reply besides the model's: the way through web, queue, worker and Redis.
OVERHEAD = 0.02
#: Standard deviation of a reply's length, as a part of it.
SPREAD = 0.02
#: Seconds in which text that a worker published before it was killed arrives.
_ON_ITS_WAY = 0.05
#: Seconds by which a reply that was struck ends later than it takes by itself, at least.
_LATE = 0.15

#: 60 users on two workers of 4 slots, at twice their capacity; a worker is killed twice.
SMALL = Plan(
    "small",
    rate=8,
    workers=2,
    slots=4,
    poisson=False,
    sessions=60,
    seconds=110,
    kills=((60, 1), (85, 1)),
)


@dataclass
class Measured:
    """What `Outcome` has of a simulation, of real processes."""

    plan: Plan
    shares: list[float]
    #: Of messages that were answered before the first kill.
    waits: list[float]
    begun_again: list[float]
    rate: float
    forgotten: int


def run(plan: Plan) -> Measured:
    """Runs the plan; the returned one has the times at which workers were killed, and how long one took to start."""
    tokens = int((plan.reply * 1000 - _FIRST) / _INTERVAL) + 1
    with (
        ModelServer(first=_FIRST, interval=_INTERVAL, tokens=tokens, record=False) as model,
        Deployment(
            model.url, webs=2, workers=plan.workers, worker_concurrency=plan.slots, max_queue_age=plan.bound
        ) as chat,
    ):
        arrivals = Arrivals([chat.url(n) for n in range(2)], plan.rate, plan.seconds, plan.sessions)
        kills: list[tuple[float, float]] = []
        # Not the kills in a thread: the processes that it starts would end with it.
        load = threading.Thread(target=arrivals.run, name="load", daemon=True)
        load.start()
        eventually(lambda: arrivals.began, 60, "the users are connected")
        for number, (when, _) in enumerate(plan.kills):
            time.sleep(max(arrivals.began + when - time.monotonic(), 0))
            worker = number % plan.workers
            chat.workers[worker].kill()
            killed = time.monotonic()
            chat.workers[worker].start()
            chat.wait_until_worker(worker)
            kills.append((killed - arrivals.began, time.monotonic() - killed))
        load.join()
    first = min((when for when, _ in kills), default=plan.seconds)
    calm = [r for r in arrivals.replies if r.admitted >= plan.after and r.ended < first]
    struck = [
        min(at for at in r.frames if at > when + _ON_ITS_WAY) - when - _FIRST / 1000
        for r in arrivals.replies
        for when, _ in kills
        if r.frames[0] < when < r.ended - _ON_ITS_WAY and r.ended - r.frames[0] > plan.reply - _FIRST / 1000 + _LATE
    ]
    restart = sum(took for _, took in kills) / len(kills) if kills else plan.restart
    return Measured(
        replace(plan, kills=tuple((when, 1) for when, _ in kills), restart=restart),
        arrivals.shares(WINDOW, plan.after),
        [r.ended - r.admitted - plan.reply for r in calm],
        struck,
        sum(r.ended >= plan.after for r in arrivals.replies if r.ended < plan.seconds) / (plan.seconds - plan.after),
        arrivals.unanswered,
    )


def run_crowd(crowd: Crowd) -> Balance:
    """Workers with all slots busy and several model servers; the share of calls at home is not seen from outside."""
    tokens = int((_REPLY * 1000 - _FIRST) / _INTERVAL) + 1
    with contextlib.ExitStack() as stack:
        models = [
            stack.enter_context(ModelServer(first=_FIRST, interval=_INTERVAL, tokens=tokens))
            for _ in range(crowd.servers)
        ]
        chat = stack.enter_context(
            Deployment(
                ",".join(model.url for model in models),
                workers=crowd.workers,
                worker_concurrency=crowd.calls,
                max_queue_age=4,
            )
        )
        calls = crowd.workers * crowd.calls
        arrivals = Arrivals([chat.url()], 1.5 * calls / _REPLY, crowd.seconds, 8 * calls)
        arrivals.run()
        records = [model.requests() for model in models]
    # The first calls begin together, and after the last message the slots become free.
    began = min(record.arrived_at for found in records for record in found) + 10
    times = [began + 0.5 * n for n in range(int((crowd.seconds - 15) / 0.5))]
    found = [
        imbalance([sum(r.arrived_at <= at < (r.ended_at or at) for r in each) for each in records]) for at in times
    ]
    return Balance(crowd, tuple(found), None)
