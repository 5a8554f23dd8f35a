"""The client's own way to run scripts, when its connection breaks in the middle."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from chatbot.store.client import connect
from devtools.harness.deployment import eventually, running_redis


def _waiting(admin: redis.Redis) -> list[dict[str, Any]]:
    """The connections whose script waits for the end of a pause."""
    return [client for client in admin.client_list() if client["cmd"] == "evalsha" and "b" in client["flags"]]


@pytest.mark.parametrize("retries", [0, 1])
def test_a_script_whose_connection_breaks_is_sent_again_if_its_client_retries(retries: int) -> None:
    with running_redis() as url, ThreadPoolExecutor(1) as threads:
        admin, client = connect(url, 1), connect(url, 2, retries=retries)
        script = client.register_script("return redis.call('INCR', KEYS[1])")
        assert script(["count"]) == 1
        admin.execute_command("CLIENT", "PAUSE", 20_000, "WRITE")
        running = threads.submit(script, ["count"])
        eventually(lambda: len(_waiting(admin)) == 1)
        admin.client_kill_filter(_id=_waiting(admin)[0]["id"])
        admin.execute_command("CLIENT", "UNPAUSE")
        if retries:
            assert running.result(10) == 2
        else:
            with pytest.raises(redis.ConnectionError):
                running.result(10)
        assert script(["other"]) == 1
