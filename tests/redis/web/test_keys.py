"""API keys at the web: who may use `/v1`, what a key may take, and the commands, against a real Redis."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import redis
from flask import Flask

from chatbot.api_keys.keys import ApiKey
from chatbot.app import create_app
from chatbot.config import Settings
from chatbot.protocol.client_errors import ClientError
from chatbot.sessions.ids import session_id
from chatbot.sessions.requests import Terms
from chatbot.sessions.sessions import Sessions
from chatbot.web.key_access import KeyAccess, add_limit_headers
from chatbot.web.services import Services
from tests.support.days import begin_within_a_day


@pytest.fixture(autouse=True)
def within_a_day() -> None:
    begin_within_a_day(10)


def settings(redis_url: str, **environ: str) -> Settings:
    return Settings.from_env({"REDIS_URL": redis_url, "API_KEYS": "required", "MODEL_NAME": "small", **environ})


@pytest.fixture
def app(redis_client: redis.Redis, redis_url: str) -> Iterator[Flask]:
    app = create_app(settings(redis_url))
    yield app
    services(app).client.connection_pool.disconnect()


def services(app: Flask) -> Services:
    found: Services = app.extensions["chatbot"]
    return found


def run(app: Flask, *arguments: str) -> str:
    result = app.test_cli_runner().invoke(args=["keys", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def models(app: Flask, secret: str | None) -> tuple[int, dict[str, Any]]:
    headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    answer = app.test_client().get("/v1/models", headers=headers)
    return answer.status_code, answer.get_json()


def test_a_key_that_the_command_made_opens_v1_until_it_is_revoked(app: Flask, redis_url: str) -> None:
    secret = run(app, "create", "shop", "--requests", "60/minute", "--tokens", "1000/day", "--model", "small")
    assert models(app, secret)[0] == 200
    another = create_app(settings(redis_url))
    assert models(another, secret)[0] == 200
    assert "60 requests/minute, 1000 tokens/day, models small" in run(app, "list")
    assert secret not in run(app, "list")
    run(app, "revoke", "shop")
    for web in (app, another):
        status, answer = models(web, secret)
        assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
        assert secret not in str(answer)
    assert "revoked" in run(app, "list")
    services(another).client.connection_pool.disconnect()


@pytest.mark.parametrize("secret", [None, "sk-other", "sk-chat-" + "x" * 43])
def test_v1_is_closed_without_a_key_of_this_server(app: Flask, secret: str | None) -> None:
    status, answer = models(app, secret)
    assert status == 401
    assert answer["error"]["type"] == "authentication_error"


def test_a_key_sees_the_models_that_it_may_use(app: Flask) -> None:
    other = run(app, "create", "other", "--model", "large")
    assert models(app, other)[1]["data"] == []
    every = run(app, "create", "every")
    assert [model["id"] for model in models(app, every)[1]["data"]] == ["small"]


@pytest.mark.parametrize(
    ("environ", "address", "required"),
    [
        ({}, ("127.0.0.1", 5000), False),
        ({"HOST": "::1"}, ("::1", 5000), False),
        ({"HOST": "0.0.0.0"}, ("0.0.0.0", 5000), True),
        ({}, ("0.0.0.0", 8000), True),
        ({}, "/run/chat.sock", True),
        ({"TRUSTED_PROXIES": "1"}, ("127.0.0.1", 5000), True),
        ({"ALLOWED_HOSTS": "chat.example.org"}, ("127.0.0.1", 5000), True),
        ({"API_KEYS": "off", "HOST": "0.0.0.0"}, ("0.0.0.0", 5000), False),
        ({"API_KEYS": "required"}, ("127.0.0.1", 5000), True),
    ],
)
def test_keys_are_required_where_other_machines_reach_the_server(
    environ: dict[str, str],
    address: Any,
    required: bool,
    redis_url: str,
    redis_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    access = KeyAccess(settings(redis_url, **{"API_KEYS": "auto", **environ}), redis_client)
    with caplog.at_level("INFO"):
        access.bind([address])
    assert access.required == required
    assert f"API keys are {'required' if required else 'not required'} for /v1" in caplog.text


def test_a_key_over_its_quota_gets_429_with_what_is_left_and_when(app: Flask, sessions: Sessions, session: str) -> None:
    run(app, "create", "shop", "--requests", "1/day", "--tokens", "2000/month")
    access = services(app).key_access
    key = next(access.keys.all())

    def ask(message: str) -> None:
        access.accept(
            key,
            session,
            message,
            "hi",
            lambda charge: sessions.requests.accept(session, message, "hi", Terms(charge=charge)),
        )

    with app.test_request_context("/v1/responses"):
        ask("m1")
        headers = add_limit_headers(app.make_response("")).headers
        assert headers["x-ratelimit-remaining-requests"] == "0"
        assert headers["x-ratelimit-limit-tokens"] == "2000"
        assert headers["x-ratelimit-remaining-tokens"] == str(2000 - 256 - 1)
    with app.test_request_context("/v1/responses"):
        with pytest.raises(ClientError) as refused:
            ask("m2")
        answer = app.handle_user_exception(refused.value)
        assert isinstance(answer, app.response_class)
        answer = add_limit_headers(answer)
    error = answer.get_json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (429, "insufficient_quota", "rate_limit_error")
    assert "0 of its 1 requests a day left" in error["message"]
    assert 0 < int(answer.headers["Retry-After"]) <= 86_400
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert re.fullmatch(r"(\d+h)?(\d+m)?(\d+s)?", answer.headers["x-ratelimit-reset-requests"])


def test_an_image_reserves_tokens_whatever_its_size(app: Flask, sessions: Sessions, session: str) -> None:
    run(app, "create", "shop")
    access = services(app).key_access
    with app.test_request_context("/v1/responses"):
        image = "data:image/png;base64," + "A" * 90_000
        step = partial(sessions.requests.accept, session, "m1", "hi")
        access.accept(next(access.keys.all()), session, "m1", image + '"xy', lambda charge: step(Terms(charge=charge)))
    shown = json.loads(run(app, "usage", "shop", "--json").splitlines()[0])
    assert shown["reserved_tokens"] == 1000 + 1 + 256


@pytest.mark.parametrize("why", ["repeated", "refused"])
def test_a_request_that_is_not_accepted_takes_nothing(why: str, app: Flask, sessions: Sessions, session: str) -> None:
    run(app, "create", "shop", "--requests", "5/day")
    access = services(app).key_access
    key = next(access.keys.all())

    def ask(where: str) -> None:
        access.accept(
            key, where, "m1", "hi", lambda charge: sessions.requests.accept(where, "m1", "hi", Terms(charge=charge))
        )

    with app.test_request_context("/v1/responses"):
        ask(session)
        if why == "repeated":
            ask(session)
        else:
            with pytest.raises(ClientError):
                ask(session_id("no session"))
    shown = json.loads(run(app, "usage", "shop", "--json").splitlines()[0])
    assert (shown["reserved_requests"], shown["requests"]) == (1, 0)


def test_the_command_and_the_metrics_show_what_a_key_used(app: Flask) -> None:
    run(app, "create", "shop")
    access = services(app).key_access
    key: ApiKey = next(access.keys.all())
    charge = access.charges.reserve(key.id, session_id("x"), "m1", prompt=1, completion=1).charge
    services(app).client.hset("chat:charges", charge, "replied:7:5:2")
    rows = [json.loads(line) for line in run(app, "usage", "--json").splitlines()]
    assert [(row["key"], row["requests"], row["prompt_tokens"], row["completion_tokens"]) for row in rows] == [
        ("shop", 1, 7, 5)
    ] * 2
    assert "1 requests, 0 failed, 7 prompt tokens (2 cached), 5 completion tokens" in run(app, "usage", "shop")
    exposition = services(app).metrics.exposition(services(app).shared_metrics).decode()
    assert 'chatbot_api_key_requests_total{key="shop",outcome="replied"} 1.0' in exposition
    assert 'chatbot_api_key_tokens_total{key="shop",kind="completion"} 5.0' in exposition


@pytest.mark.parametrize(
    "arguments",
    [("create", "shop", "--requests", "5/week"), ("create", ""), ("revoke", "nothing"), ("usage", "nothing")],
)
def test_a_command_without_sense_says_so(app: Flask, arguments: tuple[str, ...]) -> None:
    result = app.test_cli_runner().invoke(args=["keys", *arguments])
    assert result.exit_code != 0
    assert "Error" in result.output
