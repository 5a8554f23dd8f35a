"""Histories as they are stored, read and written directly."""

from __future__ import annotations

import json
from typing import Any

import redis

from chatbot.protocol.documents import bot_message, human_message
from chatbot.sessions.ids import reply_id
from chatbot.sessions.sessions import Sessions
from chatbot.store.keys import session_keys


def stored_messages(sessions: Sessions, session: str) -> list[dict[str, Any]]:
    """All messages of a session, oldest first."""
    messages: list[dict[str, Any]] = []
    before = None
    while True:
        page = sessions.read(session, before)
        messages[:0] = json.loads(page.messages)
        before = json.loads(page.before)
        if before is None:
            return messages


def store_turns(client: redis.Redis, session: str, texts: list[tuple[str, str]], ttl: int) -> None:
    """Stores turns in an empty session, each a message `old<number>` with its reply, as if they had taken place."""
    keys = session_keys(session)
    stored: list[dict[str, Any]] = []
    index: dict[Any, Any] = {}
    turns: list[str] = []
    for turn, (question, reply) in enumerate(texts):
        asked, answer = f"old{turn}", reply_id(session, f"old{turn}")
        index |= {asked: f"h:{2 * turn}:{turn}", answer: f"b:{2 * turn + 1}"}
        turns.append(f"{2 * turn}:{2 * turn + 1}")
        stored += [
            human_message(asked, question, stored[-1]["id"] if stored else None),
            bot_message(answer, reply, asked, "stop"),
        ]
    with client.pipeline(transaction=True) as pipeline:
        pipeline.execute_command("JSON.SET", keys.document, ".messages", json.dumps(stored))
        pipeline.hset(keys.index, mapping=index)
        pipeline.rpush(keys.turns, *turns)
        for key in keys[:3]:
            pipeline.expire(key, ttl)
        pipeline.execute()
