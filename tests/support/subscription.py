"""What Redis publishes on a channel, from a subscription that is confirmed."""

from __future__ import annotations

import redis

from devtools.harness.deployment import eventually


class Subscription:
    """Subscribes to one channel within the `with`."""

    def __init__(self, client: redis.Redis, channel: str) -> None:
        self._pubsub = client.pubsub(ignore_subscribe_messages=True)
        self._pubsub.subscribe(channel)
        eventually(lambda: client.pubsub_numsub(channel)[0][1] > 0, what=f"Redis has subscribed to {channel}")

    def next(self) -> str:
        """The next message, which was published or will be."""
        message = eventually(lambda: self._pubsub.get_message(timeout=1), what="a message comes")
        return str(message["data"])

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self._pubsub.close()
