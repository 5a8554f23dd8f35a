"""The limits of one address, against real processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
import websocket

from chatbot.api_keys.keys import ApiKeys
from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, new_session
from devtools.harness.deployment import Deployment, eventually


@pytest.fixture(scope="module")
def strict(model: ModelServer) -> Iterator[Deployment]:
    """A web process that takes the client's address from X-Forwarded-For."""
    with Deployment(
        model.url,
        workers=0,
        max_sockets_per_address=3,
        ratelimit_enabled="true",
        ratelimit_failed_handshakes="4/minute",
        trusted_proxies="127.0.0.0/8",
    ) as deployment:
        yield deployment


def connect(chat: Deployment, address: str, token: str | None = None) -> ChatClient:
    return ChatClient(chat.url(), token, header=[f"X-Forwarded-For: {address}"])


def refusal(chat: Deployment, address: str, token: str | None = None) -> websocket.WebSocketBadStatusException:
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        connect(chat, address, token)
    return refused.value


def test_an_address_gets_so_many_sockets_and_a_new_one_for_each_that_closes(strict: Deployment) -> None:
    clients = [connect(strict, "192.0.2.1") for _ in range(3)]
    refused = refusal(strict, "192.0.2.1")
    assert refused.status_code == 429
    assert b'"rate_limited"' in (refused.resp_body or b"")
    assert int((refused.resp_headers or {})["retry-after"]) > 0
    # Neither the hop that the client made up nor another address is counted.
    assert refusal(strict, "198.51.100.7, 192.0.2.1").status_code == 429
    key = ApiKeys(strict.client).create("limits", {})[1]
    with pytest.raises(websocket.WebSocketBadStatusException, match="429"):
        websocket.create_connection(
            f"ws{strict.url().removeprefix('http')}/v1/responses",
            header=["X-Forwarded-For: 192.0.2.1", f"Authorization: Bearer {key}"],
        )
    connect(strict, "192.0.2.2").close()
    clients.pop().close()

    def admitted() -> bool:
        try:
            clients.append(connect(strict, "192.0.2.1"))
        except websocket.WebSocketBadStatusException:
            return False
        return True

    eventually(admitted, what="the seat is free again")
    clients.pop().cut()
    eventually(admitted, what="the seat of a lost connection is free again")
    for client in clients:
        client.close()
    metrics = requests.get(strict.url() + "/metrics", timeout=30).text
    assert 'sockets_refused_total{reason="too_many_of_address"} 0.0' not in metrics


def test_made_up_tokens_are_refused_before_the_handshake_and_without_redis(strict: Deployment) -> None:
    token = new_session(strict.url())["token"]
    for _ in range(4):
        assert connect(strict, "192.0.2.10", "made-up").closed().code == 1008
    before = commands(strict)
    assert [refusal(strict, "192.0.2.10", "made-up").status_code for _ in range(50)] == [429] * 50
    # The heartbeats of the process go on.
    assert commands(strict) - before < 50
    with connect(strict, "192.0.2.12", token) as other:
        other.until("session")


def commands(chat: Deployment) -> int:
    return int(chat.client.info("stats")["total_commands_processed"])
