"""Token buckets in Redis: how much a session or an address may do in a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chatbot.store.partitions import Partition
from chatbot.store.scripts import Value


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket: each message takes tokens, and the bucket refills evenly."""

    #: The key in Redis.
    key: str
    #: Milliseconds in which the bucket gains a token.
    interval: float
    #: Tokens of a full bucket.
    size: int
    #: Whether a message takes a token for each byte of its text, at most the full bucket, instead of one token.
    counts_bytes: bool = False
    #: The partition with the key, that of an address; None for a bucket of the session.
    partition: Partition | None = None


def takes(buckets: Sequence[Bucket], text: str) -> list[Value]:
    """What scripts/_rates.lua takes from each bucket for a message with that text."""
    size = len(text.encode())
    return [value for bucket in buckets for value in (bucket.interval, bucket.size, size if bucket.counts_bytes else 1)]
