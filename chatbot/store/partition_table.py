"""Opens the table of partitions that REDIS_URL names.

Of several Redis each has one partition. A session's id picks one of 128 buckets, and each bucket belongs to one Redis:
by rendezvous hashing, with an equal share for each. A Redis that is added takes its share from all others. Of a Redis
Cluster each bucket is a partition, whose hash tag places all its names in one slot.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from urllib.parse import urlsplit

from chatbot.store.client import connect
from chatbot.store.cluster.topology import is_cluster
from chatbot.store.cluster_partitions import ClusterPartitions
from chatbot.store.listener import LISTENER_CONNECTIONS
from chatbot.store.partitions import BUCKETS, Partition, PartitionGroup, Partitions
from chatbot.store.sentinel import SentinelAddress, is_sentinel


def open_partitions(urls: Sequence[str], max_connections: int) -> Partitions:
    """The table, with clients of at most `max_connections` for each group; they connect when first used."""
    if is_cluster(urls[0]):
        return ClusterPartitions(urls[0], max_connections)
    partitions = []
    for number, url in enumerate(urls):
        client, listening = connect(url, max_connections), connect(url, LISTENER_CONNECTIONS, retries=0)
        partitions.append(Partition(number, PartitionGroup(number, client, listening, server_name(url))))
    owners = share_out([partition.group.name for partition in partitions])
    return Partitions(partitions, [partitions[owner] for owner in owners])


def server_name(url: str) -> str:
    """What a URL names, without login and options: the same for all spellings of a server and its database."""
    if is_sentinel(url):
        address = SentinelAddress.parse(url)
        hosts = ",".join(sorted(f"{host}:{port}" for host, port in address.sentinels))
        return f"{hosts}/{address.service}/{address.redis_options.get('db', 0)}"
    parts = urlsplit(url)
    if is_cluster(url):
        return ",".join(sorted(parts.netloc.rpartition("@")[2].split(",")))
    if parts.scheme == "unix":
        return f"{parts.path}?{parts.query}"
    return f"{parts.hostname}:{parts.port or 6379}/{parts.path.strip('/') or 0}"


def share_out(names: Sequence[str]) -> list[int]:
    """For each bucket the index of its server in `names`, whose order makes no other difference.

    The highest of all scores of a bucket and a server are served first, up to an equal share for each server.
    """
    scores = sorted(
        ((_score(bucket, name), bucket, index) for bucket in range(BUCKETS) for index, name in enumerate(names)),
        reverse=True,
    )
    most = math.ceil(BUCKETS / len(names))
    owners: dict[int, int] = {}
    taken: Counter[int] = Counter()
    for _, bucket, index in scores:
        if bucket not in owners and taken[index] < most:
            owners[bucket] = index
            taken[index] += 1
    return [owners[bucket] for bucket in range(BUCKETS)]


def _score(bucket: int, name: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{bucket} {name}".encode(), digest_size=8).digest())
