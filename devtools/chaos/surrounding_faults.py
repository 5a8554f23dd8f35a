"""Faults of what surrounds the processes: network, disk, memory and data of Redis, clocks, versions, junk."""

from __future__ import annotations

import json
import shutil
import time

from devtools.chaos.deployments import ClockDeployment, DiskDeployment, NetworkDeployment, VersionsDeployment
from devtools.chaos.process_faults import QUEUE_LISTS
from devtools.chaos.scene import Scene
from devtools.harness.deployment import Deployment, Process, eventually

#: Seconds for which a worker is cut off from Redis: longer than its lease.
PARTITION = 8.0
#: Seconds by which each answer of Redis is late, and for how long.
LATENCY, SLOW = 0.2, 8.0
#: Seconds for which the disk, or Redis, is full.
FULL = 4.0
#: Seconds by which a host's clock is wrong, and for how long.
HOUR, WRONG_TIME = 3600, 6.0
#: Seconds between the copy of Redis' data and its restoration.
AGE_OF_COPY = 4.0
#: Seconds in which junk arrives in the queue, and between two rounds of it.
JUNK, JUNK_PAUSE = 3.0, 0.05


def half_open_broker(scene: Scene[NetworkDeployment]) -> None:
    """All connections to the broker die without a close, those of one worker included."""
    scene.strike()
    scene.chat.broker.half_open()
    scene.chat.own_broker.half_open()


def half_open_pubsub(scene: Scene[NetworkDeployment]) -> None:
    """All subscriptions die without a close: events and stops no longer arrive, commands do."""
    scene.strike()
    for proxy in (scene.chat.sessions, scene.chat.own_sessions):
        proxy.half_open(lambda link: link.subscribed)


def partition_worker(scene: Scene[NetworkDeployment]) -> None:
    """One worker is cut off from Redis for longer than its lease; then all that it sent meanwhile arrives."""
    scene.strike()
    for proxy in (scene.chat.own_sessions, scene.chat.own_broker):
        proxy.partition()
    time.sleep(PARTITION)
    for proxy in (scene.chat.own_sessions, scene.chat.own_broker):
        proxy.heal()


def slow_redis(scene: Scene[NetworkDeployment]) -> None:
    """Every answer of Redis is 200 ms late."""
    scene.strike()
    for proxy in scene.chat.proxies:
        proxy.delay = LATENCY
    time.sleep(SLOW)
    for proxy in scene.chat.proxies:
        proxy.delay = 0.0


def fill_disk(scene: Scene[DiskDeployment]) -> None:
    """The append-only file cannot grow: Redis refuses writes."""
    scene.strike()
    scene.chat.limit_files(scene.chat.append_only_size())
    time.sleep(FULL)
    scene.chat.limit_files()


def fill_redis(scene: Scene[Deployment]) -> None:
    """Redis has reached its `maxmemory`, and evicts nothing."""
    limit = str(scene.chat.client.config_get("maxmemory")["maxmemory"])
    scene.strike()
    scene.chat.client.config_set("maxmemory", scene.chat.client.info("memory")["used_memory"])
    time.sleep(FULL)
    scene.chat.client.config_set("maxmemory", limit)


def set_clock_ahead(scene: Scene[ClockDeployment]) -> None:
    """The clock of one host jumps an hour ahead, and back."""
    _set_clock(scene, HOUR)


def set_clock_back(scene: Scene[ClockDeployment]) -> None:
    """The clock of one host jumps an hour back, and ahead again."""
    _set_clock(scene, -HOUR)


def _set_clock(scene: Scene[ClockDeployment], offset: int) -> None:
    scene.strike()
    scene.chat.set_clock(offset)
    time.sleep(WRONG_TIME)
    scene.chat.set_clock(0)


def change_versions(scene: Scene[VersionsDeployment]) -> None:
    """Half of the processes run the version before; one process after the other changes to the other version."""
    processes: list[Process] = [*scene.chat.webs, *scene.chat.workers]
    process = processes[scene.round % len(processes)]
    scene.strike()
    scene.chat.change_version(process)
    if process in scene.chat.webs:
        number = scene.chat.webs.index(process)
        eventually(lambda: scene.chat.ready(number), 30, "the web process is back")


def restore_redis(scene: Scene[Deployment]) -> None:
    """Redis is restored from a copy of its data that is some seconds old; what came since is lost, and nothing else."""
    data = scene.chat.folder / "redis"
    copy = scene.chat.folder / f"copy{scene.round}"
    copied = time.monotonic()
    shutil.copytree(data, copy)
    time.sleep(AGE_OF_COPY)
    scene.strike()
    scene.chat.redis.kill()
    shutil.rmtree(data)
    copy.rename(data)
    scene.crowd.restored.append((copied, time.monotonic()))
    scene.chat.redis.start()
    scene.chat.wait_for_redis()


def put_junk_into_the_queue(scene: Scene[Deployment]) -> None:
    """Elements that are no tasks: no JSON, no message, forged content types, tasks with absurd arguments."""
    envelope = {
        "body": "WzFd",
        "content-encoding": "binary",
        "content-type": "application/x-python-serialize",
        "headers": {"task": "chatbot.generate_reply", "id": "forged", "lang": "py"},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": "forged",
            "delivery_info": {"exchange": "", "routing_key": "celery"},
        },
    }
    plain = {**envelope, "content-type": "application/json", "content-encoding": "utf-8"}
    junk = [b"x", b"[]", b"null", b"\xff\xfe", b"[" * 10_000, *(json.dumps(e).encode() for e in (envelope, plain, {}))]
    scene.strike()
    until = time.monotonic() + JUNK
    while time.monotonic() < until:
        for name in QUEUE_LISTS:
            for element in junk:
                scene.chat.client.lpush(name, element)
        time.sleep(JUNK_PAUSE)
