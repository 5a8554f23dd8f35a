"""The steps of replies that share a connection to Redis, in the thread of the model loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import redis

from chatbot.worker import pipelined_scripts
from chatbot.worker.models.event_loop import ModelLoop
from chatbot.worker.pipelined_scripts import PipelinedScripts
from devtools.harness.deployment import eventually

#: Answers what it was given, and counts how often it ran.
ECHO = "redis.call('INCR', KEYS[1]) if ARGV[1] == 'fail' then return redis.error_reply('ERR no') end return ARGV[1]"
STEPS = 20
#: Seconds for what must come.
PATIENCE = 30


class Steps:
    """Runs steps in a loop, pipelined; `usual` counts those that were not."""

    def __init__(self, client: redis.Redis) -> None:
        self.loop, self.client, self.usual = ModelLoop(STEPS), client, 0
        self._scripts, self._script = PipelinedScripts(self.loop), client.register_script(ECHO)
        client.script_load(ECHO)

    def step(self, value: str) -> Any:
        def usual() -> Any:
            self.usual += 1
            return self.client.evalsha(self._script.sha, 1, "count", value)

        return self._scripts.evalsha(self.client, self._script.sha, 1, ["count", value], usual)

    def run(self, value: str) -> Any:
        return self.loop.run(lambda: self.step(value))

    def connection(self) -> dict[str, Any] | None:
        """The pipelined connection while it waits for the end of a pause."""
        found = [each for each in self.client.client_list() if each["cmd"] == "evalsha" and "b" in each["flags"]]
        return found[0] if found else None


@pytest.fixture
def steps(redis_client: redis.Redis) -> Steps:
    """With an open connection: the first step took the usual way."""
    found = Steps(redis_client)
    assert (found.run("first"), found.usual) == ("first", 1)
    return found


@pytest.fixture
def paused(steps: Steps, redis_client: redis.Redis) -> Callable[[ThreadPoolExecutor, str], Future[Any]]:
    """Starts a step that has to wait in Redis."""

    def begin(threads: ThreadPoolExecutor, value: str) -> Future[Any]:
        redis_client.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
        return threads.submit(steps.run, value)

    return begin


def test_replies_that_ask_together_share_a_connection_and_get_their_own_answers(steps: Steps) -> None:
    together = threading.Barrier(STEPS, timeout=PATIENCE)

    def reply(number: int) -> list[str]:
        together.wait()
        return [steps.run(f"{number}:{step}") for step in range(10)]

    with ThreadPoolExecutor(STEPS) as threads:
        answers = list(threads.map(reply, range(STEPS)))
    assert answers == [[f"{number}:{step}" for step in range(10)] for number in range(STEPS)]
    assert steps.usual == 1
    assert steps.client.get("count") == str(1 + 10 * STEPS)


def test_what_an_iteration_of_the_loop_asks_is_sent_together(steps: Steps) -> None:
    done = threading.Semaphore(0)

    def ask() -> None:
        steps.step("a")
        done.release()

    def begin() -> None:
        for _ in range(STEPS):
            steps.loop.start(ask)

    def reads() -> int:
        return int(steps.client.info("stats")["total_reads_processed"])

    before = reads()
    steps.loop.post(begin)
    assert all(done.acquire(timeout=PATIENCE) for _ in range(STEPS))
    # The second is that of the question itself.
    assert reads() - before == 2


def test_a_step_larger_than_the_buffers_of_a_socket_passes_and_those_behind_it_too(steps: Steps) -> None:
    large = "x" * 8_000_000
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(steps.run, [large, "a", large, "b"]))
    assert answers == [large, "a", large, "b"]
    assert steps.usual == 1


def test_a_step_whose_connection_breaks_takes_the_usual_way_and_the_next_a_new_connection(
    steps: Steps, redis_client: redis.Redis, paused: Callable[[ThreadPoolExecutor, str], Future[Any]]
) -> None:
    with ThreadPoolExecutor(1) as threads:
        running = paused(threads, "a")
        connection = eventually(steps.connection, what="the step waits")
        redis_client.client_kill_filter(_id=connection["id"])
        redis_client.execute_command("CLIENT", "UNPAUSE")
        assert (running.result(PATIENCE), steps.usual) == ("a", 2)
    assert [steps.run("b"), steps.run("c"), steps.usual] == ["b", "c", 3]


def test_a_step_that_redis_does_not_answer_fails_like_that_of_a_client(
    steps: Steps,
    redis_client: redis.Redis,
    paused: Callable[[ThreadPoolExecutor, str], Future[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipelined_scripts, "SOCKET_TIMEOUT", 0.1)
    with ThreadPoolExecutor(1) as threads:
        running = paused(threads, "a")
        with pytest.raises(redis.TimeoutError):
            running.result(PATIENCE)
        redis_client.execute_command("CLIENT", "UNPAUSE")
    monkeypatch.undo()
    assert [steps.run("b"), steps.run("c"), steps.usual] == ["b", "c", 2]


def test_an_error_of_redis_is_that_of_the_usual_way_and_the_lane_stays(steps: Steps) -> None:
    with pytest.raises(redis.ResponseError, match="no"):
        steps.run("fail")
    assert [steps.usual, steps.run("a"), steps.usual] == [2, "a", 2]


def test_a_step_of_another_thread_takes_the_usual_way(steps: Steps) -> None:
    assert (steps.step("here"), steps.usual) == ("here", 2)
