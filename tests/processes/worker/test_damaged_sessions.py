"""A session whose keys hold something else: its user gets an error or a close, and the others do not notice."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import redis

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


@pytest.mark.parametrize("key", DAMAGE)
def test_a_damaged_session_ends_with_an_error_and_the_others_go_on(key: str, chat: Deployment) -> None:
    model_interval = "!interval=300 !tokens=20 "
    with ChatClient(chat.url()) as client, ChatClient(chat.url(1)) as other:
        session = session_id(client.token)
        client.send(model_interval + "what?")
        client.until("delta")
        DAMAGE[key](chat.client, session_keys(session))
        assert other.ask("and me?")["msg"]
        chat.client.zadd(LEDGER, {session: 1})
        outcome = _outcome(client)
        assert outcome in ("closed 1008", "error model_error", "message"), outcome
        assert other.ask("still there?")["msg"]
    eventually(lambda: chat.client.zscore(LEDGER, session) is None, 30, "the ledger forgets the session")
    assert chat.client.zscore(WAITING, session) is None
    assert all(worker.running for worker in chat.workers)
    if outcome != "message":
        lines = [json.loads(line) for worker in chat.workers for line in worker.log.splitlines() if line[:1] == "{"]
        found = [line for line in lines if "damaged" in line["message"] and line.get("session") == session]
        assert found


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
