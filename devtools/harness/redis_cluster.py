"""A real Redis Cluster on free ports: masters, each with replicas, and what an operator does with it."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import redis
from redis.exceptions import RedisError, ResponseError

from devtools.harness.deployment import START_TIMEOUT, USER, USER_PASSWORD, Process, eventually
from devtools.harness.ports import free_port
from devtools.harness.tls_proxy import TlsProxy
from devtools.local.ports import LOOPBACK
from devtools.local.redis_server import redis_command

SLOTS = 16384
#: Milliseconds of silence after which a node counts as failed: short, for tests.
NODE_TIMEOUT = 2000
#: The same where no replica takes over: a node that a busy machine holds up is not taken for a lost one.
LONG_NODE_TIMEOUT = 15_000
#: Keys of one MIGRATE, and milliseconds that it may take.
_BATCH, _MIGRATE_TIMEOUT = 100, 5000


class RedisCluster:
    """`masters` nodes share the slots evenly, each with `replicas` replicas. Nodes are known by their ports."""

    def __init__(
        self,
        folder: Path,
        *,
        masters: int = 3,
        replicas: int = 1,
        arguments: Sequence[str] = (),
        certificates: Path | None = None,
    ) -> None:
        """`arguments` are redis-server's, for every node. The data and the logs of the nodes are in `folder`.

        With a folder of `make_certificates` the nodes announce ports with TLS.
        """
        self._replicas = replicas
        self._certificates = certificates
        #: The ports with TLS, by the ports of their nodes.
        self.encrypted: dict[int, TlsProxy] = {}
        self.nodes: dict[int, Process] = {}
        for _ in range(masters * (1 + replicas)):
            port = free_port()
            data = folder / f"node{port}"
            data.mkdir()
            own = (
                *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"),
                *("--cluster-node-timeout", str(NODE_TIMEOUT if replicas else LONG_NODE_TIMEOUT)),
                *("--cluster-port", str(free_port())),
                # The slots of other masters stay available while one master is replaced.
                *("--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0"),
            )
            announced: tuple[str, ...] = ()
            if certificates:
                self.encrypted[port] = TlsProxy(port, certificates)
                announced = ("--cluster-announce-port", str(self.encrypted[port].port))
            command = redis_command(port, data, (*own, *announced, *arguments))
            self.nodes[port] = Process(f"node{port}", command, dict(os.environ), folder / f"node{port}.log")
        self._ports = list(self.nodes)
        self._by_announced = {proxy.port: port for port, proxy in self.encrypted.items()}
        self._clients: dict[int, redis.Redis] = {}
        # They would answer after a timeout only.
        self._frozen: set[int] = set()
        #: The masters of the first setup, in the order of their slots.
        self.first_masters = self._ports[:masters]

    @property
    def url(self) -> str:
        """The cluster's `REDIS_URL`, for the default user."""
        if self._certificates:
            hosts = ",".join(f"{LOOPBACK}:{self.encrypted[port].port}" for port in self.first_masters)
            return f"rediss+cluster://{hosts}?ssl_ca_certs={self._certificates / 'ca.pem'}"
        return "redis+cluster://" + ",".join(f"{LOOPBACK}:{port}" for port in self.first_masters)

    @property
    def user_url(self) -> str:
        """The same for the user with few rights, whom `USER_ARGUMENTS` create."""
        return self.url.replace("//", f"//{USER}:{USER_PASSWORD}@", 1)

    def node(self, port: int) -> redis.Redis:
        """A client of one node."""
        return redis.Redis(LOOPBACK, port, decode_responses=True, protocol=2, socket_timeout=10)

    def ask(self, port: int, *command: Any) -> Any:
        """A node's answer as Redis sends it, if the command's words are given one by one."""
        client = self._clients.get(port) or self._clients.setdefault(port, self.node(port))
        return client.execute_command(*command)

    def start(self) -> Self:
        for proxy in self.encrypted.values():
            proxy.start()
        for process in self.nodes.values():
            process.start()
        for port in self.nodes:
            eventually(partial(self._answers, port), START_TIMEOUT, "the nodes answer")
        for epoch, port in enumerate(self.first_masters, 1):
            # Of masters with equal epochs one gets another later, and takes back a slot that has moved meanwhile.
            self.ask(port, "CLUSTER", "SET-CONFIG-EPOCH", epoch)
        self._meet()
        count = len(self.first_masters)
        for number, port in enumerate(self.first_masters):
            first, beyond = number * SLOTS // count, (number + 1) * SLOTS // count
            self.ask(port, "CLUSTER", "ADDSLOTSRANGE", first, beyond - 1)
        for number, port in enumerate(self._ports[count:]):
            master = self.first_masters[number % count]
            # The node takes a master that it has met for one without slots until it hears from that master.
            eventually(partial(self._done, port, "CLUSTER", "REPLICATE", self.id(master)), START_TIMEOUT)
        self.wait_until_healthy()
        return self

    def stop(self) -> None:
        for process in self.nodes.values():
            process.kill()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()

    def id(self, port: int) -> str:
        return str(self.ask(port, "CLUSTER", "MYID"))

    def owner(self, slot: int) -> int:
        """The port of the master that has the slot, as the nodes say that answer. Raises `LookupError`."""
        for port in self._awake():
            with contextlib.suppress(RedisError):
                for first, last, master, *_ in self.ask(port, "CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return self._port(master)
        raise LookupError(f"no node says who has slot {slot}")

    def masters(self) -> list[int]:
        """The ports of the nodes that have slots."""
        for port in self._awake():
            with contextlib.suppress(RedisError):
                return list(dict.fromkeys(self._port(entry[2]) for entry in self.ask(port, "CLUSTER", "SLOTS")))
        return []

    def _port(self, server: Sequence[Any]) -> int:
        """The port of a node that CLUSTER SLOTS names by its announced one."""
        announced = int(server[1])
        return self._by_announced.get(announced, announced)

    def kill(self, port: int) -> None:
        self.nodes[port].kill()

    def restart(self, port: int) -> None:
        """Starts a node that was killed; it becomes a replica if it was replaced."""
        self.nodes[port].restart()

    def freeze(self, port: int) -> None:
        self.nodes[port].signal(signal.SIGSTOP)
        self._frozen.add(port)

    def wake(self, port: int) -> None:
        self.nodes[port].signal(signal.SIGCONT)
        self._frozen.discard(port)

    def _awake(self) -> list[int]:
        return [port for port in self._ports if port not in self._frozen]

    def healthy(self) -> bool:
        """Whether all nodes see all slots covered, no node failed, and every replica linked."""
        return all(self._sees_health(port) for port, process in self.nodes.items() if process.running)

    def wait_until_healthy(self) -> None:
        eventually(self.healthy, START_TIMEOUT, "the cluster is healthy")

    def move_slot(self, slot: int, target: int) -> int:
        """Moves one slot with its keys to the master `target`, live, as `redis-cli --cluster reshard` does.

        Returns how many keys moved. A move that was interrupted continues where it stopped.
        """
        # A master that does not know the epoch of the slot's owner yet takes the slot without a higher one. Then a
        # heartbeat of the former owner, sent before, gives it back, and each of both says that the other one has it.
        eventually(self._agree, START_TIMEOUT, "the masters know each other's slots and epochs")
        source, moved = self.owner(slot), 0
        if source == target:
            return 0
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.id(source))
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.id(target))
        while keys := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, _BATCH):
            self.ask(source, "MIGRATE", LOOPBACK, target, "", 0, _MIGRATE_TIMEOUT, "REPLACE", "KEYS", *keys)
            moved += len(keys)
        # The new owner first, or the slot would have none should this stop in between.
        for port in (target, source, *self.masters()):
            self.ask(port, "CLUSTER", "SETSLOT", slot, "NODE", self.id(target))
        return moved

    def _agree(self) -> bool:
        first, *others = (self._view(port) for port in self.masters())
        return all(view == first for view in others)

    def _view(self, port: int) -> set[tuple[str, ...]]:
        """What a node knows of the masters: id, epoch and slots of each, without those that move."""
        fields = [line.split() for line in self.ask(port, "CLUSTER", "NODES").splitlines()]
        return {
            (each[0], each[6], *(slots for slots in each[8:] if not slots.startswith("[")))
            for each in fields
            if "master" in each[2]
        }

    def logs(self) -> str:
        """The end of every node's log."""
        return "\n".join(f"--- {p.name}\n{p.log[-2000:]}" for p in self.nodes.values() if p.log_path.exists())

    def _meet(self) -> None:
        first = self._ports[0]
        for port in self._ports[1:]:
            bus = self.ask(port, "CONFIG", "GET", "cluster-port")[1]
            self.ask(first, "CLUSTER", "MEET", LOOPBACK, port, bus)
        eventually(self._acquainted, START_TIMEOUT, "the nodes know each other")

    def _acquainted(self) -> bool:
        def known(port: int) -> bool:
            lines = self.ask(port, "CLUSTER", "NODES").splitlines()
            return len(lines) == len(self._ports) and not any("handshake" in line for line in lines)

        return all(map(known, self._ports))

    def _sees_health(self, port: int) -> bool:
        with contextlib.suppress(RedisError):
            info = self.ask(port, "CLUSTER", "INFO").splitlines()
            replication: Any = self.ask(port, "INFO", "replication")
            linked = (
                replication["role"] == "master" and replication["connected_slaves"] >= self._replicas
            ) or replication.get("master_link_status") == "up"
            return linked and "cluster_state:ok" in info and f"cluster_slots_ok:{SLOTS}" in info
        return False

    def _answers(self, port: int) -> bool:
        with contextlib.suppress(RedisError):
            return bool(self.ask(port, "PING"))
        return False

    def _done(self, port: int, *command: Any) -> bool:
        with contextlib.suppress(ResponseError):
            return bool(self.ask(port, *command))
        return False


@contextlib.contextmanager
def running_cluster(**options: Any) -> Iterator[RedisCluster]:
    """A running cluster in a folder of its own."""
    folder = tempfile.TemporaryDirectory(prefix="chatbot-cluster-")
    with folder, RedisCluster(Path(folder.name), **options) as cluster:
        yield cluster
