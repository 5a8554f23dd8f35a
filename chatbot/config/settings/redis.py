"""Settings of Redis."""

from __future__ import annotations

from dataclasses import dataclass

from chatbot.config import address_fields, fields
from chatbot.config.broker_urls import checked_broker_url
from chatbot.config.declaration import setting
from chatbot.config.redis_urls import split_urls


@dataclass(frozen=True)
class RedisSettings:
    """Redis, with RedisJSON (Redis 8 has it built in)"""

    url: str = setting(
        "REDIS_URL",
        "redis://127.0.0.1:6379/0",
        address_fields.redis_urls("percent-encode the password, or leave it out and set REDIS_PASSWORD"),
        "Where Redis is: redis://, rediss:// for TLS, unix:///run/redis.sock, or with Sentinel "
        "sentinel://[user:password@]host1[:26379],host2,host3/service[/db], sentinels:// for TLS; a Redis Cluster "
        "redis+cluster://[user:password@]host1[:6379],host2,host3, rediss+cluster:// for TLS. Several Redis or "
        "services of Sentinel, separated by commas, share the sessions.",
        secret=True,
    )
    host: str | None = setting(
        "REDIS_HOST", None, address_fields.redis_host(), "REDIS_URL in parts: the host.", shown="127.0.0.1"
    )
    port: int | None = setting("REDIS_PORT", None, fields.integer(1, 65535), "The port.", shown="6379")
    user: str = setting("REDIS_USER", "", fields.text(), "User and password also complete a REDIS_URL without them.")
    password: str = setting("REDIS_PASSWORD", "", fields.text(), "The password.", secret=True)
    broker_url: str = setting(
        "CELERY_BROKER_URL",
        "redis://127.0.0.1:6379/0",
        address_fields.redis_url("percent-encode the password", checked_broker_url),
        "The broker of the queue, if it is not the Redis of the sessions: another Redis, or RabbitMQ "
        "(amqp://user:password@host:5672/vhost, amqps:// for TLS).",
        secret=True,
        shown="",
    )
    sentinel_user: str = setting("SENTINEL_USER", "", fields.text(), "The Sentinels' own user.")
    sentinel_password: str = setting(
        "SENTINEL_PASSWORD", "", fields.text(), "The Sentinels' own password.", secret=True
    )
    wait_replicas: int = setting(
        "REDIS_WAIT_REPLICAS",
        0,
        fields.integer(0, 100),
        "Replicas that must have a message before it is acknowledged; 1 by default with Sentinel and for a Redis "
        "Cluster, else 0.",
        shown="",
    )

    @property
    def urls(self) -> tuple[str, ...]:
        """The URL of each Redis in `url`."""
        return split_urls(self.url)
