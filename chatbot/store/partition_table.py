"""Opens the table of partitions that REDIS_URL names."""

from __future__ import annotations

from chatbot.store.client import connect
from chatbot.store.cluster import is_cluster
from chatbot.store.cluster_partitions import ClusterPartitions
from chatbot.store.listener import LISTENER_CONNECTIONS
from chatbot.store.partitions import Partitions


def open_partitions(url: str, max_connections: int) -> Partitions:
    """The table, with clients of at most `max_connections` to each node; they connect when first used."""
    if is_cluster(url):
        return ClusterPartitions(url, max_connections)
    return Partitions.single(connect(url, max_connections), connect(url, LISTENER_CONNECTIONS, retries=0))
