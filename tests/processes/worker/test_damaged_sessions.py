"""A session whose keys hold something else: its user gets an error or a close, and the others do not notice."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack

import redis

from chatbot.sessions.ids import session_id
from chatbot.store.keys import LEDGER, WAITING, SessionKeys, session_keys
from devtools.harness.chat_client import ChatClient, Closed
from devtools.harness.deployment import Deployment

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
        assert not set(chat.client.zrange(name, 0, -1)) & set(sessions.values())
    assert all(worker.running for worker in chat.workers)
    lines = [json.loads(line) for worker in chat.workers for line in worker.log.splitlines() if line[:1] == "{"]
    reported = {line.get("session") for line in lines if "damaged" in line["message"]}
    assert {sessions[key] for key, outcome in outcomes.items() if outcome != "message"} <= reported


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
