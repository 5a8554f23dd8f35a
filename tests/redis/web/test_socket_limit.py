"""The limit on sockets of one session, on a real Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis

from chatbot.protocol.client_errors import SessionNotFound
from chatbot.sessions.sessions import Sessions
from chatbot.store.client import connect
from chatbot.store.partitions import Partitions
from chatbot.web.limits import socket_limit
from chatbot.web.limits.socket_limit import SocketLimit
from devtools.harness.deployment import eventually, running_redis

#: As long as those of real processes, and nothing but digits behind the last colon.
ONE, OTHER = f"chat:heartbeat:{'1' * 32}", f"chat:heartbeat:{'2' * 32}"


@pytest.fixture
def live(redis_client: redis.Redis) -> Iterator[None]:
    """Both processes are alive: they subscribe to their channels."""
    pubsub = redis_client.pubsub()
    pubsub.subscribe(ONE, OTHER)
    eventually(lambda: all(count for _, count in redis_client.pubsub_numsub(ONE, OTHER)))
    yield
    pubsub.close()


def fields(client: redis.Redis, session: str) -> list[str]:
    return sorted(str(field) for field in client.hkeys(f"chat:{{{session}}}:sockets"))


def test_a_session_has_at_most_so_many_sockets_in_all_processes(
    sessions: Sessions, redis_client: redis.Redis, session: str, live: None
) -> None:
    one, other = SocketLimit(sessions, ONE, 3), SocketLimit(sessions, OTHER, 3)
    admitted = [one.acquire(session), other.acquire(session), one.acquire(session)]
    assert sorted(admitted) == sorted([f"{ONE}/1", f"{OTHER}/1", f"{ONE}/2"])  # type: ignore[type-var]
    assert one.acquire(session) is other.acquire(session) is None
    assert len(fields(redis_client, session)) == 3
    one.release(session, f"{ONE}/1")
    eventually(lambda: len(fields(redis_client, session)) == 2)
    assert other.acquire(session) is not None


def test_adding_and_removing_a_socket_twice_is_doing_it_once(sessions: Sessions, session: str, live: None) -> None:
    for _ in range(3):
        assert sessions.sockets.add(session, f"{ONE}/1", 2)
    assert sessions.sockets.add(session, f"{ONE}/2", 2)
    # A repeated request, even if the session is full by now.
    assert sessions.sockets.add(session, f"{ONE}/1", 2)
    assert not sessions.sockets.add(session, f"{ONE}/3", 2)
    sessions.sockets.remove([(session, f"{ONE}/1"), (session, f"{ONE}/1"), ("unknown", "unknown")])
    assert sessions.sockets.add(session, f"{ONE}/3", 2)
    assert not sessions.sockets.add(session, f"{ONE}/4", 2)


def test_the_sockets_of_a_dead_process_are_removed_when_the_session_is_full(
    sessions: Sessions, redis_client: redis.Redis, session: str, live: None
) -> None:
    dead = f"chat:heartbeat:{'3' * 32}"
    for number in range(3):
        assert sessions.sockets.add(session, f"{dead}/{number}", 4)
    assert sessions.sockets.add(session, f"{ONE}/1", 4)
    assert sessions.sockets.add(session, f"{OTHER}/1", 4)
    assert fields(redis_client, session) == [f"{ONE}/1", f"{OTHER}/1"]


def test_a_process_keeps_its_own_sockets_while_its_listener_reconnects(sessions: Sessions, session: str) -> None:
    assert sessions.sockets.add(session, f"{ONE}/1", 1)
    assert not sessions.sockets.add(session, f"{ONE}/2", 1)


def test_the_sockets_expire_with_their_session(sessions: Sessions, redis_client: redis.Redis, session: str) -> None:
    sessions.sockets.add(session, f"{ONE}/1", 3)
    document, sockets = (redis_client.pttl(f"chat:{{{session}}}:{name}") for name in ("session", "sockets"))
    assert 0 < sockets <= document
    redis_client.delete(f"chat:{{{session}}}:session")
    with pytest.raises(SessionNotFound):
        sessions.sockets.add(session, f"{ONE}/2", 3)
    assert fields(redis_client, session) == []


def test_thousands_of_sockets_are_removed_in_a_moment(
    sessions: Sessions, redis_client: redis.Redis, session: str
) -> None:
    limit = SocketLimit(sessions, ONE, 5000)
    admitted = [limit.acquire(session) for _ in range(2000)]
    began = time.thread_time()
    for field in admitted:
        assert field is not None
        limit.release(session, field)
    assert time.thread_time() - began < 0.5
    eventually(lambda: not fields(redis_client, session))


def test_sockets_that_close_while_redis_is_away_are_removed_once_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_limit, "_RETRY_DELAY", 0.05)
    with running_redis() as url:
        client = connect(url, 5)
        found = Sessions(client, ttl=60, max_pending=8)
        limit = SocketLimit(found, ONE, 3)
        session = "some-session"
        client.execute_command("JSON.SET", f"chat:{{{session}}}:session", "$", "{}")
        client.expire(f"chat:{{{session}}}:session", 60)
        field = limit.acquire(session)
        assert field is not None
        real = found.sockets._partitions
        found.sockets._partitions = Partitions.single(connect("redis://127.0.0.1:1/0", 1))
        limit.release(session, field)
        assert found.sockets.remove([(session, field)]) == [(session, field)]
        time.sleep(0.3)
        assert fields(client, session)
        found.sockets._partitions = real
        eventually(lambda: not fields(client, session))
        client.connection_pool.disconnect()
