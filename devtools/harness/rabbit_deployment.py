"""The whole chat with RabbitMQ as the broker of its queue."""

from __future__ import annotations

import os
import shutil
import socket
from typing import Any

from devtools.harness.deployment import START_TIMEOUT, CannotRun, Deployment, Process, eventually
from devtools.harness.ports import free_port
from devtools.local.ports import LOOPBACK

#: Where Debian's package puts the server; the one on PATH would change the user.
_SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"


def missing_rabbitmq() -> str | None:
    """What this machine lacks for RabbitMQ, None when it has all."""
    if os.access(_SERVER, os.X_OK) and shutil.which("epmd"):
        return None
    return "RabbitMQ is not installed: apt install rabbitmq-server"


class RabbitDeployment(Deployment):
    """Sessions are in Redis, tasks in quorum queues of one RabbitMQ."""

    def __init__(self, model_url: str, **settings: Any) -> None:
        """Raises `CannotRun` where RabbitMQ is not installed."""
        if problem := missing_rabbitmq():
            raise CannotRun(problem)
        self.rabbitmq_port, names, distribution = free_port(), free_port(), free_port()
        # The URL ends in the virtual host "/", percent-encoded.
        super().__init__(
            model_url, celery_broker_url=f"amqp://guest:guest@{LOOPBACK}:{self.rabbitmq_port}/%2F", **settings
        )
        home = self.folder / "rabbitmq"
        home.mkdir()
        # Erlang's own name server, which RabbitMQ would start as a daemon that outlives it.
        self.names = self._process("epmd", ["epmd", "-port", str(names), "-address", LOOPBACK])
        self.rabbitmq = self._process("rabbitmq", [_SERVER])
        self.rabbitmq.env |= {
            "HOME": str(home),
            "ERL_EPMD_PORT": str(names),
            "RABBITMQ_NODENAME": f"chatbot{self.rabbitmq_port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": str(self.rabbitmq_port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(home),
            "RABBITMQ_LOG_BASE": str(home),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
        }

    @property
    def processes(self) -> list[Process]:
        return [*super().processes, self.rabbitmq, self.names]

    def start_redis(self) -> None:
        """Starts Redis and RabbitMQ."""
        self.names.start()
        self.rabbitmq.start()
        super().start_redis()
        self.wait_for_rabbitmq()

    def wait_for_rabbitmq(self) -> None:
        eventually(self._listens, START_TIMEOUT, "RabbitMQ listens")

    def _listens(self) -> bool:
        try:
            socket.create_connection((LOOPBACK, self.rabbitmq_port), timeout=1).close()
        except OSError:
            return False
        return True
