"""The whole chat on a Redis Cluster, with the broker of its queue there or in a Redis of its own."""

from __future__ import annotations

from typing import Any

import redis

from chatbot.store.client import connect
from chatbot.store.partition_table import open_partitions
from chatbot.store.partitions import Partitions
from devtools.harness.certificates import make_certificates
from devtools.harness.deployment import USER_ARGUMENTS, Deployment, Process
from devtools.harness.redis_cluster import RedisCluster


class ClusterDeployment(Deployment):
    """`self.redis` holds the queue where `own_broker`; else it is not started."""

    #: Whether the nodes announce ports with TLS.
    tls = False

    def __init__(
        self, model_url: str, *, masters: int = 3, replicas: int = 1, own_broker: bool = False, **settings: Any
    ) -> None:
        super().__init__(model_url, redis_url="", **settings)
        self._own_broker = own_broker
        self._partitions: Partitions | None = None
        if self.tls:
            make_certificates(self.folder)
        self.cluster = RedisCluster(
            self.folder,
            masters=masters,
            replicas=replicas,
            arguments=USER_ARGUMENTS,
            certificates=self.folder if self.tls else None,
        )
        broker = {"CELERY_BROKER_URL": self._user_url()} if own_broker else {}
        cluster = {"REDIS_WAIT_REPLICAS": str(min(replicas, 1))}
        for env in (self.env, *(process.env for process in (*self.webs, *self.workers))):
            env |= {"REDIS_URL": self.cluster.user_url, **cluster, **broker}

    @property
    def client(self) -> redis.Redis:
        """A client of the cluster, as the default user."""
        if self._client is None:
            self._client = connect(self.cluster.url, 10)
        return self._client

    @property
    def partitions(self) -> Partitions:
        if self._partitions is None:
            self._partitions = open_partitions([self.cluster.url], 5)
        return self._partitions

    def stop(self) -> None:
        if self._partitions is not None:
            self._partitions.disconnect()
        super().stop()

    @property
    def redis_servers(self) -> dict[int, Process]:
        return self.cluster.nodes

    @property
    def processes(self) -> list[Process]:
        # The cluster's nodes end last.
        return [*super().processes, *self.cluster.nodes.values()]

    def start_redis(self) -> None:
        self.cluster.start()
        if self._own_broker:
            self.redis.start()

    def logs(self) -> str:
        """The end of the logs of web and workers, for a failing test."""
        return "\n".join(f"--- {p.name}\n{p.log[-4000:]}" for p in (*self.webs, *self.workers) if p.log_path.exists())


class TlsClusterDeployment(ClusterDeployment):
    """The same with `rediss+cluster://`."""

    tls = True
