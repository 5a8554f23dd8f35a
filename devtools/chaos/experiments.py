"""Experiments: each breaks one part of a running chat while users talk, and repairs it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from devtools.chaos.crowd import Crowd
from devtools.harness.deployment import Deployment, eventually
from devtools.harness.sentinel_deployment import SentinelDeployment

#: Seconds for which a worker stays frozen: longer than its lease.
FREEZE = 7.0
#: Seconds for which Redis is down.
REDIS_GONE = 1.0
#: Seconds for which a master stays frozen after a replica was promoted.
MASTER_FROZEN = 2.0


def kill_worker(chat: Deployment, crowd: Crowd, round_number: int) -> None:
    """SIGKILL of a worker during replies; another is started in its place, as a service manager does."""
    worker = chat.workers[round_number % len(chat.workers)]
    crowd.mark_fault()
    worker.kill()
    worker.start()


def freeze_worker(chat: Deployment, crowd: Crowd, round_number: int) -> None:
    """SIGSTOP of a worker for longer than its lease, then SIGCONT: others have taken over its sessions."""
    worker = chat.workers[round_number % len(chat.workers)]
    crowd.mark_fault()
    worker.signal(signal.SIGSTOP)
    time.sleep(FREEZE)
    worker.signal(signal.SIGCONT)


def kill_web(chat: Deployment, crowd: Crowd, round_number: int) -> None:
    """SIGKILL of a web process with its sockets."""
    web = chat.webs[round_number % len(chat.webs)]
    crowd.mark_fault()
    web.kill()
    web.start()
    eventually(lambda: chat.ready(round_number % len(chat.webs)), 30, "the web process is back")


def kill_redis(chat: Deployment, crowd: Crowd, round_number: int) -> None:
    """SIGKILL of Redis, and its restart from the append-only file."""
    crowd.mark_fault()
    chat.redis.kill()
    time.sleep(REDIS_GONE)
    chat.redis.start()
    chat.wait_for_redis()


def kill_beat(chat: Deployment, crowd: Crowd, round_number: int) -> None:
    """SIGKILL of the beat."""
    crowd.mark_fault()
    chat.beat.restart()


def empty_queue(chat: Deployment, crowd: Crowd, round_number: int) -> None:
    """The Celery queue is deleted repeatedly for a second, so that tasks are lost."""
    crowd.mark_fault()
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        chat.client.delete("celery")


def stop_worker(chat: Deployment, crowd: Crowd, round_number: int) -> None:
    """SIGTERM of a worker, as at every release."""
    worker = chat.workers[round_number % len(chat.workers)]
    crowd.mark_fault()
    worker.stop()
    worker.start()


def stop_web(chat: Deployment, crowd: Crowd, round_number: int) -> None:
    """SIGTERM of a web process."""
    web = chat.webs[round_number % len(chat.webs)]
    crowd.mark_fault()
    web.stop()
    web.start()
    eventually(lambda: chat.ready(round_number % len(chat.webs)), 30, "the web process is back")


def cut_sockets(chat: Deployment, crowd: Crowd, round_number: int) -> None:
    """Sockets are cut at random moments of a stream; the users do that themselves."""
    before = sum(person.reconnects for person in crowd.people)
    eventually(lambda: sum(p.reconnects for p in crowd.people) >= before + 10, 60, "ten more sockets were cut")


def kill_master(chat: SentinelDeployment, crowd: Crowd, round_number: int) -> None:
    """SIGKILL of the master; Sentinel promotes a replica, and the former master returns as a replica."""
    master = chat.master()
    crowd.mark_fault()
    chat.servers[master].kill()
    eventually(lambda: chat.master() != master, 30, "another Redis is master")
    chat.servers[master].start()
    eventually(chat.healthy, 60, "the former master follows")


def freeze_master(chat: SentinelDeployment, crowd: Crowd, round_number: int) -> None:
    """SIGSTOP of the master until a replica was promoted, then SIGCONT: it still believes that it is the master."""
    master = chat.master()
    crowd.mark_fault()
    chat.freeze(master)
    eventually(lambda: chat.master() != master, 30, "another Redis is master")
    # Connections to it time out meanwhile, or find a stale master when it continues.
    time.sleep(MASTER_FROZEN)
    chat.wake(master)
    eventually(chat.healthy, 60, "the former master follows")


def fail_over(chat: SentinelDeployment, crowd: Crowd, round_number: int) -> None:
    """SENTINEL FAILOVER, as before maintenance of the master; writes are paused first, as docs/operations.md says."""
    master = chat.master()
    crowd.mark_fault()
    with chat.server(master) as client:
        client.client_pause(3000, all=False)
    chat.fail_over()
    eventually(lambda: chat.master() != master, 30, "another Redis is master")
    eventually(chat.healthy, 60, "the former master follows")


@dataclass(frozen=True)
class Experiment:
    """A fault, how often `make chaos` repeats it, and what the users do meanwhile."""

    inflict: Callable[[Any, Crowd, int], None]
    times: int
    cut_often: bool = False
    #: What it runs on.
    deployment: type[Deployment] = Deployment


EXPERIMENTS = {
    "worker-kill": Experiment(kill_worker, 50),
    "worker-freeze": Experiment(freeze_worker, 5),
    "worker-stop": Experiment(stop_worker, 10),
    "web-kill": Experiment(kill_web, 20),
    "web-stop": Experiment(stop_web, 10),
    "redis-kill": Experiment(kill_redis, 10),
    "beat-kill": Experiment(kill_beat, 5),
    "queue-emptied": Experiment(empty_queue, 5),
    "sockets-cut": Experiment(cut_sockets, 10, cut_often=True),
    "master-kill": Experiment(kill_master, 5, deployment=SentinelDeployment),
    "master-freeze": Experiment(freeze_master, 5, deployment=SentinelDeployment),
    "failover": Experiment(fail_over, 5, deployment=SentinelDeployment),
}


def run_experiment(chat: Deployment, name: str, times: int, people: int) -> Crowd:
    """Inflicts a fault `times` times while `people` users talk, each time once replies are being streamed again."""
    experiment = EXPERIMENTS[name]

    def urls() -> list[str]:
        return [chat.url(n) for n in range(len(chat.webs))]

    with Crowd(people, urls, cut_often=experiment.cut_often) as crowd:
        for round_number in range(times):
            # Every fault hits users during replies, after new messages were answered.
            goal = crowd.answered() + max(people // 2, 1)
            eventually(partial(_answered, crowd, goal), 60, f"replies arrive before fault {round_number}")
            eventually(lambda: crowd.talking() >= max(people // 4, 1), 60, "replies are being streamed")
            experiment.inflict(chat, crowd, round_number)
        goal = crowd.answered() + people
        eventually(lambda: crowd.answered() >= goal, 60, "replies arrive after the last fault")
    return crowd


def _answered(crowd: Crowd, goal: int) -> bool:
    return crowd.answered() >= goal
