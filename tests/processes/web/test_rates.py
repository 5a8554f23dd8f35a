"""Rate limits and backpressure over several processes, against real ones."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis
import requests

from chatbot.protocol.client_errors import RateLimited
from chatbot.sessions.buckets import Bucket
from chatbot.sessions.ids import session_id
from chatbot.sessions.queue_delay import read_lines
from chatbot.sessions.requests import Terms
from chatbot.sessions.sessions import Sessions
from chatbot.store.partitions import partitions_of
from devtools.fake_model import ModelServer
from devtools.harness.chat_client import PATIENCE, ChatClient, history, new_session
from devtools.harness.deployment import Deployment, eventually
from devtools.harness.histories import stored_messages
from tests.support.http_transports import post


@pytest.fixture(scope="module")
def strict(model: ModelServer) -> Iterator[Deployment]:
    """Two web processes with low rates, which take the client's address from X-Forwarded-For.

    While a test counts what is admitted, hardly more comes back, even on a busy machine: the rates are by the minute.
    Only those of one session let a client in again soon.
    """
    with Deployment(
        model.url,
        webs=2,
        ratelimit_enabled="true",
        ratelimit_sessions="4/minute",
        ratelimit_session_messages="3/3second",
        ratelimit_address_messages="6/minute",
        ratelimit_address_bytes="5000/hour",
        ratelimit_session_reads="4/4second",
        ratelimit_address_reads="6/minute",
        max_pending_messages=20,
        trusted_proxies="127.0.0.0/8",
    ) as deployment:
        yield deployment


def create_session(chat: Deployment, address: str, web: int = 0) -> requests.Response:
    return requests.post(
        chat.url(web) + "/token", json={"name": "Ada"}, headers={"X-Forwarded-For": address}, timeout=30
    )


def client_at(chat: Deployment, address: str, web: int = 0, token: str | None = None) -> ChatClient:
    header = [f"X-Forwarded-For: {address}"]
    client = ChatClient(chat.url(web), token or create_session(chat, address).json()["token"], header=header)
    assert client.receive()["type"] == "session"
    return client


def read(chat: Deployment, token: str, address: str = "192.0.2.1", web: int = 0) -> requests.Response:
    return requests.get(
        chat.url(web) + "/refresh_token",
        params={"token": token},
        headers={"X-Forwarded-For": address},
        timeout=30,
    )


def test_new_sessions_of_one_address_are_limited_over_all_processes(strict: Deployment) -> None:
    answers = [create_session(strict, "192.0.2.1", number % 2) for number in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 2
    refused = answers[-1]
    assert refused.json()["error"]["code"] == "rate_limited"
    assert 1 <= int(refused.headers["Retry-After"]) <= 120
    assert create_session(strict, "192.0.2.2").status_code == 200


def test_the_bytes_of_imported_chats_are_limited(strict: Deployment) -> None:
    asked = {"id": "m1", "source": "human", "msg": "x" * 4900, "timestamp": "2026-01-02T03:04:05Z"}
    file, headers = {"name": "Ada", "messages": [asked]}, {"X-Forwarded-For": "192.0.2.41"}
    one, other = [requests.post(strict.url(web) + "/import", json=file, headers=headers, timeout=30) for web in (0, 1)]
    assert (one.status_code, other.status_code) == (200, 429)
    assert int(other.headers["Retry-After"]) > 600


def test_an_ipv6_network_of_one_customer_is_one_address(strict: Deployment) -> None:
    answers = [create_session(strict, f"2001:db8:1:2::{number:x}") for number in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 4 + [429]
    assert create_session(strict, "2001:db8:1:3::1").status_code == 200


def test_messages_of_one_session_are_limited_over_all_processes(strict: Deployment) -> None:
    with client_at(strict, "192.0.2.10") as one, client_at(strict, "192.0.2.11", 1, one.token) as other:
        began = time.monotonic()
        accepted = 0
        while _accepted(client := (one, other)[accepted % 2], f"m{accepted}"):
            accepted += 1
        error = client.of_type("error")[-1]
        assert (error["code"], error["id"]) == ("rate_limited", f"m{accepted}")
        assert 0 < error["retry_after"] <= 1
        # Three at once, and one more each second.
        assert 3 <= accepted <= 4 + time.monotonic() - began
        asked = [m["id"] for m in history(strict.url(), one.token) if m["source"] == "human"]
        assert asked == [f"m{number}" for number in range(accepted)]
        time.sleep(error["retry_after"])
        # The same id, as it was not stored.
        assert client.ask("too quick", f"m{accepted}")["reply_to"] == f"m{accepted}"
    # Requests count like frames.
    token, address = one.token, {"X-Forwarded-For": "192.0.2.12"}
    eventually(lambda: post(strict.url(), token, "quick", **address).status_code == 429, what="a request is refused")


def test_a_message_that_is_stored_already_is_acknowledged_without_being_counted(strict: Deployment) -> None:
    with client_at(strict, "192.0.2.20") as client:
        client.ask("once", "m0")
        for _ in range(10):
            client.send("once", "m0")
            client.until("ack", id="m0")
        client.send("again", "m1")
        client.until("ack", id="m1")


def test_a_client_that_keeps_asking_is_admitted_when_announced(strict: Deployment) -> None:
    with client_at(strict, "192.0.2.15") as client:
        count = 0
        while _accepted(client, f"m{count}"):
            count += 1
        announced = time.monotonic() + client.of_type("error")[-1]["retry_after"]
        while not _accepted(client, f"m{count}"):
            assert time.monotonic() < announced + PATIENCE
        assert client.until("message", reply_to=f"m{count}")


def test_messages_of_one_address_are_limited_over_all_its_sessions(strict: Deployment) -> None:
    with client_at(strict, "192.0.2.30") as one, client_at(strict, "192.0.2.30", 1) as other:
        for number in range(3):
            for client in (one, other):
                client.send("quick", f"m{number}")
                client.until("ack", id=f"m{number}")
        with client_at(strict, "192.0.2.30") as third:
            third.send("another session", "m0")
            assert third.until("error")["code"] == "rate_limited"
        with client_at(strict, "192.0.2.31") as elsewhere:
            elsewhere.send("from elsewhere", "m0")
            elsewhere.until("ack", id="m0")


def test_the_bytes_of_one_address_are_limited_over_all_its_sessions(strict: Deployment) -> None:
    with client_at(strict, "192.0.2.35") as one, client_at(strict, "192.0.2.35", 1) as other:
        assert one.ask("x" * 3000)["source"] == "bot"
        other.send("x" * 3000, "long")
        refused = other.until("error")
        assert (refused["code"], refused["id"]) == ("rate_limited", "long")
        # 1000 bytes are missing, and 5000 come back in an hour.
        assert 600 < refused["retry_after"] <= 720
        assert other.ask("x" * 1000)["source"] == "bot"


def test_a_flood_gets_an_answer_to_each_frame_and_is_slowed_down(strict: Deployment) -> None:
    with client_at(strict, "192.0.2.40") as client:
        began = time.monotonic()
        for number in range(100):
            client.send("flood", f"m{number}")
        while len(client.of_type("ack")) + len(client.of_type("error")) < 100:
            client.receive()
        # 60 at once, then 20 a second.
        assert time.monotonic() - began > 1.5
        assert {frame["code"] for frame in client.of_type("error")} == {"rate_limited"}
        assert all(frame["retry_after"] > 0 for frame in client.of_type("error"))
        answered = [frame["id"] for frame in client.frames if frame["type"] in ("ack", "error")]
        assert sorted(answered) == sorted(f"m{number}" for number in range(100))


def test_ends_are_limited_by_the_rate_of_new_sessions(strict: Deployment) -> None:
    token = create_session(strict, "192.0.2.70").json()["token"]

    def end() -> int:
        headers = {"X-Forwarded-For": "192.0.2.70"}
        return requests.delete(
            strict.url() + "/token", params={"token": token}, headers=headers, timeout=30
        ).status_code

    assert [end() for _ in range(5)] == [204, 400, 400, 400, 429]


def test_reads_of_one_session_are_limited_over_all_processes(strict: Deployment) -> None:
    token = create_session(strict, "192.0.2.50").json()["token"]
    began, number = time.monotonic(), 0
    while (answer := read(strict, token, f"192.0.2.{number}", number % 2)).status_code == 200:
        number += 1
        assert number < 100, "no read is refused"
    # Four at once, and one more each second.
    assert 4 <= number <= 5 + time.monotonic() - began
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limited")
    assert answer.headers["Retry-After"] == "1"
    time.sleep(1)
    assert read(strict, token).status_code == 200


def test_reads_of_one_address_are_limited_over_all_its_sessions(strict: Deployment) -> None:
    tokens = [create_session(strict, f"192.0.2.{60 + number}").json()["token"] for number in range(6)]
    assert [read(strict, token, "192.0.2.20").status_code for token in tokens] == [200] * 6
    assert read(strict, "an unknown token", "192.0.2.20").status_code == 429
    assert read(strict, tokens[0], "192.0.2.21").status_code == 200


def test_without_redis_rates_answer_unavailable_and_recover(strict: Deployment) -> None:
    with client_at(strict, "192.0.2.80") as client:
        client.ask("is all well?")
        strict.redis.kill()
        answer = create_session(strict, "192.0.2.80")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        client.send("and now?", "m1")
        error = client.until("error")
        assert (error["code"], error["id"]) == ("unavailable", "m1")
        strict.redis.start()
        strict.wait_for_redis()
        eventually(strict.ready)
        assert client.ask("and now?", "m1")["reply_to"] == "m1"
        assert not strict.webs[0].traceback()


def test_no_message_is_accepted_while_the_queue_delay_is_too_long(model: ModelServer) -> None:
    with (
        Deployment(model.url, max_queue_age=1) as chat,
        ChatClient(chat.url()) as early,
        ChatClient(chat.url()) as late,
    ):
        # A long reply adds nothing to the queue delay.
        model.control(first=1500)
        early.ask("take your time", "m0")
        model.control(first=0)
        chat.workers[0].kill()
        early.send("who answers this?", "m1")
        early.until("ack", id="m1")
        everything = partitions_of(chat.client).all
        eventually(lambda: read_lines(everything)[0].delay > 1.1, what="the message waits")
        assert read_lines(everything)[0].ready == 1
        late.send("and this?", "m0")
        refused = late.until("error", id="m0")
        assert refused["code"] == "rate_limited"
        assert 1 <= refused["retry_after"] <= 60
        assert history(chat.url(), late.token) == []
        chat.workers[0].start()
        early.until("message", reply_to="m1")
        eventually(lambda: _accepted(late, "m0"), what="messages are accepted again")
        late.until("message", reply_to="m0")
        eventually(lambda: not read_lines(everything)[0].ready, what="no message waits")


def _accepted(client: ChatClient, message_id: str) -> bool:
    client.send("and now?", message_id)
    while True:
        frame = client.receive()
        if frame["type"] in ("ack", "error") and frame["id"] == message_id:
            return bool(frame["type"] == "ack")


def test_a_message_takes_from_all_buckets_or_from_none(redis_client: redis.Redis) -> None:
    sessions = Sessions(redis_client, ttl=60, max_pending=100)
    session = session_id(sessions.create("Ada")["token"])
    small, large = Bucket("small", 60_000, 2), Bucket("large", 60_000, 3)
    for number in range(2):
        sessions.requests.accept(session, f"m{number}", "hello", Terms((small, large)))
    for number in range(5):
        with pytest.raises(RateLimited) as refused:
            sessions.requests.accept(session, f"n{number}", "hello", Terms((large, small)))
        assert refused.value.retry_after == pytest.approx(60, abs=2)
    sessions.requests.accept(session, "m2", "hello", Terms((large,)))
    with pytest.raises(RateLimited):
        sessions.requests.accept(session, "m3", "hello", Terms((large,)))
    assert len(stored_messages(sessions, session)) == 3


def test_the_deployment_of_the_tests_has_no_rates(chat: Deployment) -> None:
    # Other tests rely on it: all their clients have one address.
    assert {new_session(chat.url())["name"] for _ in range(5)} == {"Ada"}
    assert chat.webs[0].env["RATELIMIT_ENABLED"] == "false"
