"""Readiness checks of services: functions that return when the service is ready, and otherwise raise NotReady.

The text of the exception says what is missing. A check is repeated, from a thread of its own; each answers within
a few seconds.
"""

import http.client
import json
import time
from collections.abc import Callable

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from chatbot.config import RedisSettings
from chatbot.store.access import SESSION_COMMANDS
from chatbot.telemetry.redis_use import check_use

TIMEOUT = 2.0  # seconds for one answer of a process on this machine
PATIENCE = 3.0  # seconds for a Redis that may have been started just before
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


def why_redis_is_unusable(settings: RedisSettings) -> str | None:
    """Return why a Redis that is named in REDIS_URL cannot be used, None if all can or are about to."""
    deadline = time.monotonic() + PATIENCE
    for url in settings.urls:
        while True:
            use = check_use(url, SESSION_COMMANDS, "REDIS_URL")
            if use.problem is None or "loading" in use.problem:
                break
            if use.answers or time.monotonic() > deadline:
                return use.problem
            time.sleep(0.2)
    return None


def http_answers(port: int, path: str, host: str = "127.0.0.1") -> None:
    """Return when GET ``path`` on ``host:port`` answers 200."""
    status, body = _get(host, port, path)
    if status != 200:
        raise NotReady(f"GET {path} answers {status}: {_problems(body)[:SHOWN]}")


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


def _problems(body: str) -> str:
    """Return what is wrong by the parts of an answer of /readyz, or any other answer as it is."""
    try:
        parts = json.loads(body)
    except ValueError:
        return body
    if not isinstance(parts, dict) or "status" not in parts:
        return body
    wrong = (f"{name} {said}" for name, said in parts.items() if isinstance(said, str) and said != "ok")
    return ", ".join(text for text in wrong if not text.startswith("status "))


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
