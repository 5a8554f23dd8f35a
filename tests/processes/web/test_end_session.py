"""`DELETE /token` and MAX_SESSION_AGE against real processes."""

from __future__ import annotations

import time

import pytest
import requests

from chatbot.sessions.ids import session_id
from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, new_session
from devtools.harness.deployment import Deployment, eventually


def end(url: str, token: str | None, **headers: str) -> requests.Response:
    return requests.delete(url + "/token", params={"token": token} if token else {}, headers=headers, timeout=30)


def test_an_ended_session_is_gone_everywhere_and_its_sockets_are_closed(chat: Deployment) -> None:
    with ChatClient(chat.url(0)) as one, ChatClient(chat.url(1), one.token) as two:
        one.ask("hello")
        began = time.monotonic()
        assert end(chat.url(0), one.token).status_code == 204
        for client in (one, two):
            closed = client.closed()
            assert (closed.code, closed.reason) == (1008, "Session expired")
        assert time.monotonic() - began < 10
        session = session_id(one.token)
        assert not [key for key in chat.client.scan_iter("*") if session in str(key)]
        refused = requests.get(chat.url(1) + "/refresh_token", params={"token": one.token}, timeout=30)
        assert refused.json()["error"]["code"] == "session_not_found"
        again = ChatClient(chat.url(1), one.token).closed()
        assert again.code == 1008


@pytest.mark.parametrize("silent", [False, True])
def test_a_reply_in_progress_ends_and_is_no_takeover(chat: Deployment, model: ModelServer, silent: bool) -> None:
    model.control(first=30_000 if silent else 0, interval=50, tokens=1000)
    with ChatClient(chat.url()) as client:
        client.send("slow", "m1")
        client.until("ack" if silent else "delta")
        model.wait_until(lambda found: len(found) == 1)
        headers = {"Authorization": f"Bearer {client.token}"}
        assert requests.delete(chat.url() + "/token", headers=headers, timeout=30).status_code == 204
        assert client.closed().code == 1008
        records = model.wait_until(lambda found: found[-1].outcome == "closed_by_client")
    assert records[-1].tokens < 100
    session = session_id(client.token)

    def lines() -> str:
        return "\n".join(line for worker in chat.workers for line in worker.log.splitlines() if session in line)

    eventually(lambda: "the session ended while" in lines())
    # This line stands where a takeover is counted.
    assert "another worker has taken over" not in lines()
    assert not [key for key in chat.client.scan_iter("*") if session in str(key)]


def test_an_unknown_session_cannot_be_ended(chat: Deployment) -> None:
    token = new_session(chat.url())["token"]
    assert end(chat.url(), token).status_code == 204
    for unknown in (token, "x", None):
        answer = end(chat.url(), unknown)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "session_not_found"


def test_a_page_of_another_origin_cannot_end_a_session(chat: Deployment) -> None:
    token = new_session(chat.url())["token"]
    assert end(chat.url(), token, Origin="https://evil.example").status_code == 403
    assert requests.get(chat.url() + "/refresh_token", params={"token": token}, timeout=30).status_code == 200


def test_a_session_ends_at_its_age_though_it_is_used(model: ModelServer) -> None:
    with Deployment(model.url, max_session_age=3) as deployment, ChatClient(deployment.url()) as client:
        began = time.monotonic()
        assert client.until("session")["expires_in"] <= 3
        client.ask("hello")
        assert client.closed().reason == "Session expired"
        assert 1 < time.monotonic() - began < 12
