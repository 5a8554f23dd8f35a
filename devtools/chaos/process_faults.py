"""Faults of processes: each breaks one part of a running chat while users talk, and repairs it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence

from chatbot.queue.celery_app import NEW
from devtools.chaos.scene import Scene
from devtools.harness.deployment import Deployment, Process, eventually
from devtools.harness.rabbit_deployment import RabbitDeployment
from devtools.harness.sentinel_deployment import SentinelDeployment
from devtools.harness.several_redis_deployment import SeveralRedisDeployment

#: Seconds for which a worker stays frozen: longer than its lease.
FREEZE = 7.0
#: Seconds for which Redis is down.
REDIS_GONE = 1.0
#: Seconds for which the model server is down.
MODEL_GONE = 1.0
#: Seconds for which a master stays frozen after a replica was promoted.
MASTER_FROZEN = 2.0

#: The lists of kombu's queue: for owed sessions, and for new messages.
QUEUE_LISTS = ("celery", f"celery\x06\x16{NEW}")


def _in_turn(scene: Scene[Deployment], processes: Sequence[Process]) -> Process:
    """The process that this round of the fault is for."""
    return processes[scene.round % len(processes)]


def _restart_web(scene: Scene[Deployment], end: Callable[[Process], object]) -> None:
    web = _in_turn(scene, scene.chat.webs)
    scene.strike()
    end(web)
    web.start()
    eventually(lambda: scene.chat.ready(scene.chat.webs.index(web)), 30, "the web process is back")


def kill_worker(scene: Scene[Deployment]) -> None:
    """SIGKILL of a worker during replies; another is started in its place, as a service manager does."""
    scene.kill_worker(_in_turn(scene, scene.chat.workers))


def freeze_worker(scene: Scene[Deployment]) -> None:
    """SIGSTOP of a worker for longer than its lease, then SIGCONT: others have taken over its sessions."""
    worker = _in_turn(scene, scene.chat.workers)
    scene.strike()
    worker.signal(signal.SIGSTOP)
    time.sleep(FREEZE)
    worker.signal(signal.SIGCONT)


def kill_web(scene: Scene[Deployment]) -> None:
    """SIGKILL of a web process with its sockets."""
    _restart_web(scene, Process.kill)


def kill_rabbitmq(scene: Scene[RabbitDeployment]) -> None:
    """SIGKILL of the broker, and its restart: owed replies go on without it."""
    scene.strike()
    scene.chat.rabbitmq.restart()
    scene.chat.wait_for_rabbitmq()


def kill_redis(scene: Scene[Deployment]) -> None:
    """SIGKILL of Redis, and its restart from the append-only file."""
    scene.strike()
    scene.chat.redis.kill()
    time.sleep(REDIS_GONE)
    scene.chat.redis.start()
    scene.chat.wait_for_redis()


def kill_one_redis(scene: Scene[SeveralRedisDeployment]) -> None:
    """SIGKILL of one of several Redis, of each in turn, and its restart from the append-only file."""
    scene.strike()
    server = scene.chat.servers[scene.round % len(scene.chat.servers)]
    server.kill()
    time.sleep(REDIS_GONE)
    server.start()
    scene.chat.wait_for_redis()


def empty_queue(scene: Scene[Deployment]) -> None:
    """Celery's queue, all its lists, is deleted repeatedly for a second, so that tasks are lost."""
    scene.strike()
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        scene.chat.client.delete(*QUEUE_LISTS)


def stop_worker(scene: Scene[Deployment]) -> None:
    """SIGTERM of a worker, as at every release."""
    worker = _in_turn(scene, scene.chat.workers)
    scene.strike()
    worker.stop()
    worker.start()


def stop_web(scene: Scene[Deployment]) -> None:
    """SIGTERM of a web process."""
    _restart_web(scene, Process.stop)


def cut_sockets(scene: Scene[Deployment]) -> None:
    """Sockets are cut at random moments of a stream; the users do that themselves."""
    before = sum(user.reconnects for user in scene.crowd.users)
    eventually(lambda: sum(p.reconnects for p in scene.crowd.users) >= before + 10, 60, "ten more sockets were cut")


def kill_master(scene: Scene[SentinelDeployment]) -> None:
    """SIGKILL of the master; Sentinel promotes a replica, and the former master returns as a replica."""
    master = scene.chat.master()
    scene.strike()
    scene.chat.servers[master].kill()
    eventually(lambda: scene.chat.master() != master, 30, "another Redis is master")
    scene.chat.servers[master].start()
    eventually(scene.chat.healthy, 60, "the former master follows")


def freeze_master(scene: Scene[SentinelDeployment]) -> None:
    """SIGSTOP of the master until a replica was promoted, then SIGCONT: it still believes that it is the master."""
    master = scene.chat.master()
    scene.strike()
    scene.chat.freeze(master)
    eventually(lambda: scene.chat.master() != master, 30, "another Redis is master")
    # Connections to it time out meanwhile, or find a stale master when it continues.
    time.sleep(MASTER_FROZEN)
    scene.chat.wake(master)
    eventually(scene.chat.healthy, 60, "the former master follows")


def fail_over(scene: Scene[SentinelDeployment]) -> None:
    """SENTINEL FAILOVER, as before maintenance of the master; writes are paused first, as docs/operations.md says."""
    master = scene.chat.master()
    scene.strike()
    with scene.chat.server(master) as client:
        client.client_pause(3000, all=False)
    scene.chat.fail_over()
    eventually(lambda: scene.chat.master() != master, 30, "another Redis is master")
    eventually(scene.chat.healthy, 60, "the former master follows")


def kill_model(scene: Scene[Deployment]) -> None:
    """SIGKILL of the model server in the middle of its replies; it is back a second later."""
    scene.strike()
    scene.model.stop()
    time.sleep(MODEL_GONE)
    scene.model.start()
