"""The settings with which Celery reaches a broker that is a Redis, from the URL that names it."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import quote, urlsplit

from redis.connection import parse_url

from chatbot.store.cluster.topology import ClusterAddress, is_cluster
from chatbot.store.sentinel import SentinelAddress, is_sentinel, tls_options

#: In a Redis Cluster, before each name of the queue: the tag puts all of them into one slot.
CLUSTER_PREFIX = "{celery}:"

#: Options of a Redis URL that are Celery's transport options too.
_TIMEOUTS = ("socket_timeout", "socket_connect_timeout", "health_check_interval", "client_name")


def celery_broker(url: str) -> tuple[str, dict[str, Any], dict[str, Any] | None]:
    """Celery's `broker_url`, `broker_transport_options` and `broker_use_ssl` (None without TLS) for a `REDIS_URL`.

    Where Celery shows its settings, it masks passwords in URLs and options with "password" in their name.
    """
    if is_sentinel(url):
        sentinel = SentinelAddress.parse(url)
        host, port = sentinel.sentinels[0]
        login, at, _ = urlsplit(url).netloc.rpartition("@")
        bracketed = f"[{host}]" if ":" in host else host
        return (
            f"sentinel://{login}{at}{bracketed}:{port}/{sentinel.redis_options.get('db', 0)}",
            {
                "sentinels": sentinel.sentinels,
                "master_name": sentinel.service,
                "sentinel_kwargs": sentinel.sentinel_options,
                **{name: sentinel.redis_options[name] for name in _TIMEOUTS if name in sentinel.redis_options},
            },
            _tls_settings(sentinel.redis_options) if sentinel.tls else None,
        )
    if is_cluster(url):
        return _cluster_broker(ClusterAddress.parse(url))
    options = parse_url(url)
    login = _login(options.get("username", ""), options.get("password", ""))
    extra = {name: options[name] for name in _TIMEOUTS if name in options}
    db = options.get("db", 0)
    if "path" in options:
        return f"redis+socket://{login}{options['path']}?virtual_host={db}", extra, None
    host = options.get("host", "127.0.0.1")
    address = f"{login}{f'[{host}]' if ':' in host else host}:{options.get('port', 6379)}/{db}"
    if urlsplit(url).scheme != "rediss":
        return f"redis://{address}", extra, None
    tls = _tls_settings(options)
    # kombu prefers the URL to the setting, also when the URL leaves it out.
    return f"rediss://{address}?ssl_cert_reqs={tls['ssl_cert_reqs'].name}", {**extra, "tls": tls}, tls


def _cluster_broker(cluster: ClusterAddress) -> tuple[str, dict[str, Any], dict[str, Any] | None]:
    options, (host, port) = cluster.redis_options, cluster.nodes[0]
    login = _login(options.get("username", ""), options.get("password", ""))
    tls = _tls_settings(options) if cluster.tls else None
    return (
        f"cluster://{login}{f'[{host}]' if ':' in host else host}:{port}/0",
        {
            "nodes": [tuple(node) for node in cluster.nodes],
            "global_keyprefix": CLUSTER_PREFIX,
            **({"tls": tls} if tls else {}),
            **{name: options[name] for name in _TIMEOUTS if name in options},
        },
        tls,
    )


def _login(user: str, password: str) -> str:
    return f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""


def _tls_settings(options: dict[str, Any]) -> dict[str, Any]:
    """TLS options with redis-py's default, which kombu lacks: the broker's certificate is verified."""
    chosen = tls_options(options)
    known = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
    return {**chosen, "ssl_cert_reqs": known.get(chosen.get("ssl_cert_reqs", "required"), ssl.CERT_REQUIRED)}
