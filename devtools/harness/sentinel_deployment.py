"""The whole chat on a Redis that can fail over: a master, replicas and three Sentinels, all real processes."""

from __future__ import annotations

import contextlib
import signal
from functools import partial
from typing import Any

import redis

from devtools.harness.deployment import START_TIMEOUT, Deployment, Process, eventually
from devtools.harness.ports import free_port
from devtools.local.ports import LOOPBACK
from devtools.local.redis_server import redis_command

SERVICE = "chat"
PASSWORD = "made-up"
SENTINEL_PASSWORD = "made up, too"
#: Milliseconds of silence after which a Sentinel considers the master down: short, for tests.
DOWN_AFTER = 1000


class SentinelDeployment(Deployment):
    """The setup of docs/operations.md: passwords everywhere, a master that takes writes only while it has a replica."""

    def __init__(self, model_url: str, *, replicas: int = 2, **settings: Any) -> None:
        self.sentinel_ports = [free_port() for _ in range(3)]
        hosts = ",".join(f"{LOOPBACK}:{port}" for port in self.sentinel_ports)
        url = f"sentinel://:{PASSWORD}@{hosts}/{SERVICE}/0"
        arguments = (
            *("--requirepass", PASSWORD, "--masterauth", PASSWORD),
            *("--min-replicas-to-write", "1", "--min-replicas-max-lag", "10"),
            *("--repl-diskless-sync-delay", "0"),
        )
        super().__init__(
            model_url, redis_args=arguments, redis_url=url, sentinel_password=SENTINEL_PASSWORD, **settings
        )
        self.redis_url = f"{url}?sentinel_password={SENTINEL_PASSWORD.replace(' ', '%20')}"
        self.servers = {self.redis_port: self.redis}
        for number in range(replicas):
            port = free_port()
            data = self.folder / f"redis{number}"
            data.mkdir()
            self.servers[port] = self._process(f"redis{number}", redis_command(port, data, arguments))
        binary = self.redis.command[0]
        self.sentinels = []
        for number, port in enumerate(self.sentinel_ports):
            configuration = self.folder / f"sentinel{number}.conf"
            configuration.write_text(
                f"port {port}\nbind {LOOPBACK}\ndir {self.folder}\n"
                f'requirepass "{SENTINEL_PASSWORD}"\n'
                f"sentinel monitor {SERVICE} {LOOPBACK} {self.redis_port} 2\n"
                f"sentinel auth-pass {SERVICE} {PASSWORD}\n"
                f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER}\n"
                f"sentinel failover-timeout {SERVICE} 5000\n"
            )
            self.sentinels.append(self._process(f"sentinel{number}", [binary, str(configuration), "--sentinel"]))

    @property
    def processes(self) -> list[Process]:
        return [*super().processes, *(p for p in self.servers.values() if p is not self.redis), *self.sentinels]

    def start_redis(self) -> None:
        for process in self.servers.values():
            process.start()
        for port in self.servers:
            eventually(partial(self.role, port), START_TIMEOUT, "the Redis servers answer")
            if port != self.redis_port:
                with self.server(port) as client:
                    client.replicaof(LOOPBACK, self.redis_port)
        eventually(lambda: self._linked(self.redis_port), START_TIMEOUT, "the replicas are online")
        for process in self.sentinels:
            process.start()
        eventually(self._watched, START_TIMEOUT, "the Sentinels know each other and the replicas")

    def server(self, port: int) -> redis.Redis:
        return redis.Redis(LOOPBACK, port, password=PASSWORD, socket_timeout=1, decode_responses=True)

    def sentinel(self, number: int = 0) -> redis.Redis:
        return redis.Redis(
            LOOPBACK, self.sentinel_ports[number], password=SENTINEL_PASSWORD, socket_timeout=1, decode_responses=True
        )

    def role(self, port: int) -> str:
        """`master` or `slave`; '' when it does not answer."""
        with contextlib.suppress(redis.RedisError), self.server(port) as client:
            return str(client.info("replication")["role"])
        return ""

    def master(self) -> int:
        """The port of the Redis that the Sentinels consider the master."""
        with self.sentinel() as client:
            return int(client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", SERVICE)[1])

    def healthy(self) -> bool:
        """Whether one Redis is master, all others replicate it, and the Sentinels agree."""
        master = self.master()
        return self._linked(master) and self._watched()

    def fail_over(self) -> None:
        """Makes the Sentinels promote a replica, as an operator does before maintenance."""
        with self.sentinel() as client:
            client.execute_command("SENTINEL FAILOVER", SERVICE)

    def freeze(self, port: int) -> None:
        self.servers[port].signal(signal.SIGSTOP)

    def wake(self, port: int) -> None:
        self.servers[port].signal(signal.SIGCONT)

    def _linked(self, master: int) -> bool:
        with contextlib.suppress(redis.RedisError), self.server(master) as client:
            said = client.info("replication")
            followers = [said.get(f"slave{n}", {}) for n in range(said["connected_slaves"])]
            return (
                said["role"] == "master"
                and len(followers) == len(self.servers) - 1
                and all(f["state"] == "online" for f in followers)
            )
        return False

    def _watched(self) -> bool:
        with contextlib.suppress(redis.RedisError):
            for number in range(len(self.sentinels)):
                with self.sentinel(number) as client:
                    said = client.sentinel_masters()[SERVICE]
                    if said["flags"] != "master" or said["num-other-sentinels"] < len(self.sentinels) - 1:
                        return False
                    if said["num-slaves"] < len(self.servers) - 1:
                        return False
            return True
        return False
