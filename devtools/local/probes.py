"""Readiness checks of services: functions that return when the service is ready, and otherwise raise NotReady.

The text of the exception says what is missing. A check is repeated, from a thread of its own; each answers within
a few seconds.
"""

import http.client
import json
from collections.abc import Callable

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

TIMEOUT = 2.0  # seconds for one answer of a process on this machine
SHOWN = 200  # characters of an answer that a message repeats


class NotReady(Exception):
    """The service is not ready yet."""


class NeverReady(NotReady):
    """The service will never be ready."""


def redis_answers(port: int) -> None:
    """Return when the Redis on 127.0.0.1:``port`` answers and has RedisJSON. Raises NeverReady without RedisJSON."""
    client = redis.Redis(
        host="127.0.0.1",
        port=port,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )
    command: Callable[..., object] = client.execute_command  # redis-py gives it no types
    try:
        command("PING")  # raises while Redis loads its data, too
        command("JSON.GET", "chatbot:local:probe")
    except redis.ResponseError as error:
        if "unknown command" in str(error).lower():
            raise NeverReady("this Redis has no JSON commands: it lacks the RedisJSON module") from error
        raise NotReady(str(error)) from error
    except redis.RedisError as error:
        raise NotReady(str(error)) from error
    finally:
        client.close()


def http_answers(port: int, path: str, host: str = "127.0.0.1") -> None:
    """Return when GET ``path`` on ``host:port`` answers 200."""
    status, body = _get(host, port, path)
    if status != 200:
        raise NotReady(f"GET {path} answers {status}: {body[:SHOWN]}")


def workers_answer(port: int) -> None:
    """Return when the web server's /readyz reports a worker (``{"workers": 1}``), or has no such field."""
    _, body = _get("127.0.0.1", port, "/readyz")
    try:
        answer = json.loads(body)
    except ValueError:
        return
    workers = answer.get("workers") if isinstance(answer, dict) else None
    if isinstance(workers, int) and workers < 1:
        raise NotReady("no worker has answered yet")


def _get(host: str, port: int, path: str) -> tuple[int, str]:
    # Not urllib, which would use the proxy that the environment may name.
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read(64 * 1024).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise NotReady(f"GET {path}: {error or type(error).__name__}") from error
    finally:
        connection.close()
