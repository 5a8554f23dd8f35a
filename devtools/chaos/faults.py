"""The faults: each breaks one thing for real while people talk, and puts it back."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from devtools.chaos.traffic import Crowd
from devtools.harness.deployment import Deployment, eventually
from devtools.harness.sentinel import SentinelDeployment

#: Seconds for which a frozen worker sleeps: longer than its lease.
FREEZE = 7.0
#: Seconds for which Redis is gone.
REDIS_GONE = 1.0
#: Seconds for which a master stays frozen once another has taken its place.
MASTER_FROZEN = 2.0


def kill_worker(chat: Deployment, crowd: Crowd, turn: int) -> None:
    """SIGKILL of a worker in the middle of streams; another is started in its place, as an operator's would be."""
    worker = chat.workers[turn % len(chat.workers)]
    crowd.mark_fault()
    worker.kill()
    worker.start()


def freeze_worker(chat: Deployment, crowd: Crowd, turn: int) -> None:
    """SIGSTOP for longer than the lease, then SIGCONT: the worker wakes up amid what others have done since."""
    worker = chat.workers[turn % len(chat.workers)]
    crowd.mark_fault()
    worker.signal(signal.SIGSTOP)
    time.sleep(FREEZE)
    worker.signal(signal.SIGCONT)


def kill_web(chat: Deployment, crowd: Crowd, turn: int) -> None:
    """SIGKILL of a web process with all its sockets."""
    web = chat.webs[turn % len(chat.webs)]
    crowd.mark_fault()
    web.kill()
    web.start()
    eventually(lambda: chat.ready(turn % len(chat.webs)), 30, "the web process is back")


def kill_redis(chat: Deployment, crowd: Crowd, turn: int) -> None:
    """SIGKILL of Redis, and its restart from the append-only file."""
    crowd.mark_fault()
    chat.redis.kill()
    time.sleep(REDIS_GONE)
    chat.redis.start()
    chat.wait_for_redis()


def kill_beat(chat: Deployment, crowd: Crowd, turn: int) -> None:
    """SIGKILL of the beat."""
    crowd.mark_fault()
    chat.beat.restart()


def empty_queue(chat: Deployment, crowd: Crowd, turn: int) -> None:
    """The Celery queue is deleted, again and again for a while, so that tasks are lost."""
    crowd.mark_fault()
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        chat.client.delete("celery")


def stop_worker(chat: Deployment, crowd: Crowd, turn: int) -> None:
    """SIGTERM of a worker, as in every deployment of a new version."""
    worker = chat.workers[turn % len(chat.workers)]
    crowd.mark_fault()
    worker.stop()
    worker.start()


def stop_web(chat: Deployment, crowd: Crowd, turn: int) -> None:
    """SIGTERM of a web process."""
    web = chat.webs[turn % len(chat.webs)]
    crowd.mark_fault()
    web.stop()
    web.start()
    eventually(lambda: chat.ready(turn % len(chat.webs)), 30, "the web process is back")


def cut_sockets(chat: Deployment, crowd: Crowd, turn: int) -> None:
    """Sockets are cut at random moments of a stream; the people do that themselves."""
    before = sum(person.reconnects for person in crowd.people)
    eventually(lambda: sum(p.reconnects for p in crowd.people) >= before + 10, 60, "ten more sockets were cut")


def kill_master(chat: SentinelDeployment, crowd: Crowd, turn: int) -> None:
    """SIGKILL of the master; Sentinel makes a replica the master, and the dead one comes back as replica."""
    master = chat.master()
    crowd.mark_fault()
    chat.servers[master].kill()
    eventually(lambda: chat.master() != master, 30, "another Redis is master")
    chat.servers[master].start()
    eventually(chat.healthy, 60, "the former master follows")


def freeze_master(chat: SentinelDeployment, crowd: Crowd, turn: int) -> None:
    """SIGSTOP of the master until another has taken its place, then SIGCONT: it wakes up taking itself for the
    master."""
    master = chat.master()
    crowd.mark_fault()
    chat.freeze(master)
    eventually(lambda: chat.master() != master, 30, "another Redis is master")
    # Whoever still talks to it gives up meanwhile, or finds it awake and out of date.
    time.sleep(MASTER_FROZEN)
    chat.wake(master)
    eventually(chat.healthy, 60, "the former master follows")


def fail_over(chat: SentinelDeployment, crowd: Crowd, turn: int) -> None:
    """SENTINEL FAILOVER, as before maintenance of the master; writes are paused first, as docs/operations.md says."""
    master = chat.master()
    crowd.mark_fault()
    with chat.server(master) as client:
        client.client_pause(3000, all=False)
    chat.fail_over()
    eventually(lambda: chat.master() != master, 30, "another Redis is master")
    eventually(chat.healthy, 60, "the former master follows")


@dataclass(frozen=True)
class Fault:
    """A fault, how often the long form has it, and what the people do meanwhile."""

    inflict: Callable[[Any, Crowd, int], None]
    times: int
    cut_often: bool = False
    #: What it is inflicted on.
    deployment: type[Deployment] = Deployment

    @property
    def title(self) -> str:
        return (self.inflict.__doc__ or "").partition(";")[0].partition(",")[0].partition(":")[0].strip(" .\n")


FAULTS = {
    "worker-kill": Fault(kill_worker, 50),
    "worker-freeze": Fault(freeze_worker, 5),
    "worker-stop": Fault(stop_worker, 10),
    "web-kill": Fault(kill_web, 20),
    "web-stop": Fault(stop_web, 10),
    "redis-kill": Fault(kill_redis, 10),
    "beat-kill": Fault(kill_beat, 5),
    "queue-emptied": Fault(empty_queue, 5),
    "sockets-cut": Fault(cut_sockets, 10, cut_often=True),
    "master-kill": Fault(kill_master, 5, deployment=SentinelDeployment),
    "master-freeze": Fault(freeze_master, 5, deployment=SentinelDeployment),
    "failover": Fault(fail_over, 5, deployment=SentinelDeployment),
}


def run(chat: Deployment, name: str, times: int, people: int) -> Crowd:
    """Inflicts a fault `times` times on `people` who talk; each time once replies are being streamed again."""
    fault = FAULTS[name]

    def urls() -> list[str]:
        return [chat.url(n) for n in range(len(chat.webs))]

    with Crowd(people, urls, cut_often=fault.cut_often) as crowd:
        for turn in range(times):
            # Every fault meets people in the middle of replies, after new ones were answered.
            goal = crowd.answered() + max(people // 2, 1)
            eventually(partial(_answered, crowd, goal), 60, f"people are answered before fault {turn}")
            eventually(lambda: crowd.talking() >= max(people // 4, 1), 60, "replies are being streamed")
            fault.inflict(chat, crowd, turn)
        goal = crowd.answered() + people
        eventually(lambda: crowd.answered() >= goal, 60, "people are answered after the last fault")
    return crowd


def _answered(crowd: Crowd, goal: int) -> bool:
    return crowd.answered() >= goal
