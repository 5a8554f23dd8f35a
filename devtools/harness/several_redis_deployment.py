"""The whole chat on several Redis that share the sessions."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import redis

from chatbot.store.partition_table import open_partitions
from chatbot.store.partitions import Partitions
from devtools.harness.deployment import (
    START_TIMEOUT,
    USER,
    USER_ARGUMENTS,
    USER_PASSWORD,
    Deployment,
    Process,
    eventually,
)
from devtools.harness.ports import free_port
from devtools.local.redis_server import redis_command


class SeveralRedisDeployment(Deployment):
    """Three Redis, each with an append-only file; the first also has the queue and what belongs to no session."""

    #: How many Redis.
    count = 3

    def __init__(self, model_url: str, **settings: Any) -> None:
        super().__init__(model_url, **settings)
        self.servers = [self.redis]
        self._ports = ports = [self.redis_port, *(free_port() for _ in range(self.count - 1))]
        for number, port in enumerate(ports[1:], 2):
            data = self.folder / f"redis{number}"
            data.mkdir()
            self.servers.append(self._process(f"redis{number}", redis_command(port, data, USER_ARGUMENTS)))
        self.urls = [f"redis://127.0.0.1:{port}/0" for port in ports]
        for process in (*self.webs, *self.workers):
            process.env["REDIS_URL"] = ",".join(f"redis://{USER}:{USER_PASSWORD}@127.0.0.1:{port}/0" for port in ports)
        self._table: Partitions | None = None

    @property
    def partitions(self) -> Partitions:
        if self._table is None:
            self._table = open_partitions(self.urls, 10)
        return self._table

    @property
    def redis_servers(self) -> dict[int, Process]:
        return dict(zip(self._ports, self.servers, strict=True))

    @property
    def processes(self) -> list[Process]:
        return [*super().processes, *self.servers[1:]]

    def start_redis(self) -> None:
        for process in self.servers:
            process.start()
        self.wait_for_redis()

    def wait_for_redis(self) -> None:
        for group in self.partitions.groups:
            eventually(partial(_answers, group.client), START_TIMEOUT, f"Redis {group.number + 1} answers")

    def stop(self) -> None:
        if self._table is not None:
            self._table.disconnect()
        super().stop()


def _answers(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.RedisError):
        return bool(client.ping())
    return False
