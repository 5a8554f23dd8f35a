"""Is it ready? Functions that return when it is, and otherwise raise NotReady.

The text of the exception says what is missing. A probe is called again and again, from a thread of its own;
each answers within a few seconds at most.
"""

import http.client
import json
from collections.abc import Callable

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

TIMEOUT = 2.0  # seconds for one answer of a process on this machine
SHOWN = 200  # characters of an answer that are worth repeating in a message


class NotReady(Exception):
    """Not yet: ask again."""


class NeverReady(NotReady):
    """Asking again is of no use."""


def redis_answers(port: int) -> None:
    """Return when the Redis on 127.0.0.1:``port`` answers and knows JSON. NeverReady when it lacks JSON."""
    client = redis.Redis(
        host="127.0.0.1",
        port=port,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )
    command: Callable[..., object] = client.execute_command  # which has no types of its own
    try:
        command("PING")  # raises while Redis is still loading its data, too
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
    """Return when the web server's /readyz counts a worker (``{"workers": 1}``), or does not count them."""
    _, body = _get("127.0.0.1", port, "/readyz")
    try:
        answer = json.loads(body)
    except ValueError:
        return
    workers = answer.get("workers") if isinstance(answer, dict) else None
    if isinstance(workers, int) and workers < 1:
        raise NotReady("no worker has answered yet")


def _get(host: str, port: int, path: str) -> tuple[int, str]:
    # Not urllib, which would ask the proxy that the environment may name.
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read(64 * 1024).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise NotReady(f"GET {path}: {error or type(error).__name__}") from error
    finally:
        connection.close()
