"""A session whose keys hold something else: its user gets an error or a close, and the others do not notice."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack

import pytest
import redis
import requests

from chatbot.sessions.ids import session_id
from chatbot.store.keys import LEDGER, WAITING, SessionKeys, session_keys
from devtools.harness.chat_client import ChatClient, Closed
from devtools.harness.deployment import Deployment, eventually

Damage = Callable[[redis.Redis, SessionKeys], object]


def wrong_type(name: str) -> Damage:
    def damage(client: redis.Redis, keys: SessionKeys) -> None:
        client.delete(getattr(keys, name))
        client.sadd(getattr(keys, name), "x")

    return damage


DAMAGE: dict[str, Damage] = {
    **{name: wrong_type(name) for name in ("document", "index", "turns", "pending", "state")},
    "number": lambda client, keys: client.json().set(keys.document, "$", 5),
    "messages": lambda client, keys: client.json().set(keys.document, "$.messages", {}),
}


def test_damaged_sessions_end_with_an_error_and_the_others_go_on(chat: Deployment) -> None:
    with ExitStack() as stack:
        clients = {key: stack.enter_context(ChatClient(chat.url())) for key in DAMAGE}
        other = stack.enter_context(ChatClient(chat.url(1)))
        for client in clients.values():
            client.send("!interval=100 !tokens=15 what?")
        for key, client in clients.items():
            client.until("delta")
            session = session_id(client.token)
            DAMAGE[key](chat.client, session_keys(session))
            chat.client.zadd(LEDGER, {session: 1})
        assert other.ask("and me?")["msg"]
        outcomes = {key: _outcome(client) for key, client in clients.items()}
        assert set(outcomes.values()) <= {"closed 1008", "error model_error", "message"}, outcomes
        assert other.ask("still there?")["msg"]
    sessions = {key: session_id(client.token) for key, client in clients.items()}
    for name in (LEDGER, WAITING):
        eventually(lambda name=name: not set(chat.client.zrange(name, 0, -1)) & set(sessions.values()))  # type: ignore[misc]
    assert all(worker.running for worker in chat.workers)

    def reported() -> set[str]:
        lines = [json.loads(line) for worker in chat.workers for line in worker.lines if line[:1] == "{"]
        return {line.get("session") for line in lines if "damaged" in line["message"]}

    wanted = {sessions[key] for key, outcome in outcomes.items() if outcome != "message"}
    eventually(lambda: wanted <= reported(), what="each damaged session is logged")


@pytest.mark.parametrize("key", ["state", "messages"])
def test_what_a_client_of_a_damaged_session_sends_or_opens_is_refused_for_good(chat: Deployment, key: str) -> None:
    with ChatClient(chat.url()) as client:
        client.ask("hello")
        DAMAGE[key](chat.client, session_keys(session_id(client.token)))
        client.send("and now?", "m2")
        error = client.until("error")
        assert (error["code"], error["id"], error["retry_after"]) == ("session_damaged", "m2", None)
        with ChatClient(chat.url(), client.token) as again:
            assert _outcome(again) == "closed 1008"
        answer = requests.get(chat.url() + "/refresh_token", params={"token": client.token}, timeout=30)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "session_damaged")


def _outcome(client: ChatClient) -> str:
    try:
        while True:
            frame = client.receive()
            if frame["type"] == "error":
                return f"error {frame['code']}"
            if frame["type"] == "message":
                return "message"
    except Closed as closed:
        return f"closed {closed.code}"
