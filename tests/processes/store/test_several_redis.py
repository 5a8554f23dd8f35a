"""Three Redis share the sessions of a running chat; one is lost, and returns."""

from __future__ import annotations

from contextlib import ExitStack

import requests

from chatbot.sessions.ids import session_id
from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient
from devtools.harness.deployment import eventually
from devtools.harness.several_redis_deployment import SeveralRedisDeployment


def test_sessions_go_on_while_another_redis_is_lost(model: ModelServer) -> None:
    with SeveralRedisDeployment(model.url) as chat, ExitStack() as stack:
        users: dict[int, ChatClient] = {}
        while len(users) < 3:
            user = stack.enter_context(ChatClient(chat.url()))
            place = chat.partitions.of(session_id(user.token)).number
            assert user.ask("hello", "m1")
            users.setdefault(place, user)
        model.control(hold=0)
        users[1].send("are you there?", "m2")
        users[1].until("ack", id="m2")
        chat.servers[1].kill()
        model.control(hold=None)
        for place in (0, 2):
            assert users[place].ask("and you?", "m2")

        def readiness() -> tuple[int, str]:
            ready = requests.get(chat.url() + "/readyz", timeout=30)
            return ready.status_code, ready.json()["redis"]

        # On a busy machine another one may be late.
        eventually(lambda: readiness() == (200, "Redis 2 of 3 does not answer"), what="the lost one is named")
        metrics = requests.get(chat.url() + "/metrics", timeout=30).text
        assert "chatbot_web_redis_up 0.0" in metrics
        assert "chatbot_ledger_sessions 0.0" in metrics
        # A new user finds room where Redis answers.
        for _ in range(4):
            assert chat.partitions.of(session_id(stack.enter_context(ChatClient(chat.url())).token)).number != 1
        chat.servers[1].start()
        chat.wait_for_redis()
        assert users[1].until("message", reply_to="m2")
        eventually(lambda: requests.get(chat.url() + "/readyz", timeout=30).json()["redis"] == "ok", what="all is well")
