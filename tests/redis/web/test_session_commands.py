"""`chatbot end-session` and `end-sessions`, against a real Redis."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from chatbot.app import create_app
from chatbot.config import Settings, read_settings
from chatbot.sessions.ids import session_id
from chatbot.sessions.sessions import Sessions
from chatbot.store.keys import events_channel
from chatbot.web.services import Services
from devtools.harness.deployment import eventually


def test_without_redis_no_number_of_sessions_is_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    ended = create_app(read_settings()).test_cli_runner().invoke(args=["end-sessions"])
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Error: no Redis answers where REDIS_URL says: ")


def test_the_commands_end_one_and_all_sessions(redis_url: str, sessions: Sessions, redis_client: redis.Redis) -> None:
    app = create_app(Settings.from_env({"REDIS_URL": redis_url, "MODEL_NAME": "small"}))
    run = app.test_cli_runner().invoke
    one, *others = [session_id(sessions.create("Ada")["token"]) for _ in range(3)]
    with redis_client.pubsub(ignore_subscribe_messages=True) as listening:
        channels = [events_channel(session) for session in (one, *others)]
        listening.subscribe(*channels)
        eventually(
            lambda: all(count for _, count in redis_client.pubsub_numsub(*channels)), what="Redis has subscribed"
        )

        def event() -> str:
            return str(eventually(lambda: listening.get_message(timeout=1), what="an event comes")["channel"])

        assert run(args=["end-session", one]).exit_code == 0
        # Web processes close the sockets then.
        assert event() == events_channel(one)
        assert run(args=["end-session", one]).exit_code == 1
        assert run(args=["end-sessions"]).stdout.strip() == "2 sessions ended"
        assert {event(), event()} == {events_channel(session) for session in others}
    assert not list(redis_client.scan_iter("chat:{*"))
    services: Services = app.extensions["chatbot"]
    services.client.connection_pool.disconnect()
