"""API keys over real processes: quotas, revocation, whose a response is, and what is charged around kills."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import websocket

from chatbot.api_keys.keys import ApiKeys, Counted, Period
from chatbot.config import ModelSettings
from chatbot.web.contracts.openai_operations import OPENAI_OPERATIONS
from devtools.chaos import key_usage
from devtools.fake_model import ModelServer
from devtools.harness.deployment import Deployment, eventually
from tests.support.days import begin_within_a_day

MODEL = ModelSettings.name


@pytest.fixture(scope="module")
def keyed() -> Iterator[Deployment]:
    """Two web processes and two workers, and a key is required."""
    with (
        ModelServer(tokens=6) as model,
        Deployment(f"{model.url}/v1/chat/completions", webs=2, workers=2, api_keys="required") as deployment,
    ):
        deployment.model = model  # type: ignore[attr-defined]
        yield deployment


def new_key(keyed: Deployment, name: str, limits: dict[tuple[Counted, Period], int] | None = None) -> str:
    return ApiKeys(keyed.client).create(name, limits or {})[1]


def call(
    keyed: Deployment, secret: str, method: str, path: str, body: dict[str, Any] | None = None, web: int = 0
) -> requests.Response:
    headers = {"Authorization": f"Bearer {secret}"}
    return requests.request(method, f"{keyed.url(web)}/v1{path}", json=body, headers=headers, timeout=30)


def ask(keyed: Deployment, secret: str, web: int = 0, **fields: Any) -> requests.Response:
    return call(keyed, secret, "POST", "/responses", {"model": "m", "input": "hello", **fields}, web)


def test_a_key_over_its_quota_gets_429_from_every_process_and_interface(keyed: Deployment) -> None:
    begin_within_a_day()
    secret = new_key(keyed, "quota", {("requests", "day"): 2, ("tokens", "month"): 5000})
    first, second = ask(keyed, secret), ask(keyed, secret, 1)
    assert [first.status_code, second.status_code] == [200, 200]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in (first, second)] == ["1", "0"]
    chat = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    for refused in (ask(keyed, secret), call(keyed, secret, "POST", "/chat/completions", chat, 1)):
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (429, "insufficient_quota")
        assert "0 of its 2 requests a day left" in error["message"]
        assert 0 < int(refused.headers["Retry-After"]) <= 86_400
        assert refused.headers["x-ratelimit-limit-requests"] == "2"
        assert int(refused.headers["x-ratelimit-remaining-tokens"]) > 4000


def test_a_revoked_key_is_refused_at_once_by_every_process_and_on_an_open_websocket(keyed: Deployment) -> None:
    secret = new_key(keyed, "leaked")
    create = json.dumps({"type": "response.create", "model": "m", "input": "hello"})
    url = f"ws{keyed.url().removeprefix('http')}/v1/responses"
    socket = websocket.create_connection(url, header=[f"Authorization: Bearer {secret}"], timeout=30)
    try:
        socket.send(create)
        while json.loads(socket.recv())["type"] != "response.completed":
            pass
        ApiKeys(keyed.client).revoke("leaked")
        socket.send(create)
        assert json.loads(socket.recv())["error"]["code"] == "invalid_api_key"
    finally:
        socket.shutdown()
    for web in (0, 1):
        answers = (ask(keyed, secret, web), call(keyed, secret, "GET", "/models", web=web))
        assert [(a.status_code, a.json()["error"]["code"]) for a in answers] == [(401, "invalid_api_key")] * 2
    with pytest.raises(websocket.WebSocketBadStatusException):
        websocket.create_connection(url, header=[f"Authorization: Bearer {secret}"], timeout=30)


def test_another_keys_response_is_not_found(keyed: Deployment) -> None:
    owner, other = new_key(keyed, "owner"), new_key(keyed, "other")
    response = ask(keyed, owner).json()["id"]
    steps = (("GET", ""), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", ""))
    for method, path in steps:
        answer = call(keyed, other, method, f"/responses/{response}{path}", web=1)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "response_not_found"), (method, path)
    continued = ask(keyed, other, previous_response_id=response)
    assert (continued.status_code, continued.json()["error"]["code"]) == (400, "previous_response_not_found")
    assert call(keyed, owner, "GET", f"/responses/{response}", web=1).status_code == 200
    assert call(keyed, owner, "DELETE", f"/responses/{response}").status_code == 200


UNKNOWN = "resp_" + "x" * 59


def test_every_operation_is_refused_without_a_key_and_for_another_model(keyed: Deployment) -> None:
    for operation in OPENAI_OPERATIONS:
        path = operation.path.replace("{id}", UNKNOWN).replace("{name}", "m")
        if "101" not in operation.answers:
            answer = requests.request(operation.method, keyed.url() + path, json={}, timeout=30)
            assert answer.status_code == 401, path
    secret = ApiKeys(keyed.client).create("narrow", {}, ("other",))[1]
    chat = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    for refused in (ask(keyed, secret), call(keyed, secret, "POST", "/chat/completions", chat)):
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    assert call(keyed, secret, "GET", "/models").json()["data"] == []
    assert call(keyed, secret, "GET", f"/models/{MODEL}").status_code == 404
    every = new_key(keyed, "every")
    assert call(keyed, every, "GET", f"/models/{MODEL}").json()["id"] == MODEL
    url = f"ws{keyed.url().removeprefix('http')}/v1/responses"
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        websocket.create_connection(url, header=[f"Authorization: Bearer {every}"], origin="https://evil.example")


def test_wrong_requests_are_refused_in_openais_form(keyed: Deployment) -> None:
    secret = new_key(keyed, "wrong")
    response = ask(keyed, secret).json()["id"]
    for path in ("/responses", "/responses/compact", "/chat/completions"):
        assert call(keyed, secret, "POST", path, {"input": "x" * (9 * 1024 * 1024)}).status_code == 413
    wrong = (
        ("POST", "/chat/completions"),
        ("POST", "/responses/compact"),
        ("GET", f"/responses/{response}?stream=true&starting_after=x"),
        ("GET", f"/responses/{response}/input_items?limit=0"),
    )
    for method, path in wrong:
        answer = call(keyed, secret, method, path, {})
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error"), path


def test_a_response_that_is_awaited_is_not_cancelled_and_a_conversation_is_compacted(keyed: Deployment) -> None:
    secret = new_key(keyed, "patient")
    headers = {"Authorization": f"Bearer {secret}"}
    body = {"model": "m", "input": "!interval=50 !tokens=2000 on and on", "stream": True}
    url = f"{keyed.url()}/v1/responses"
    with requests.post(url, json=body, headers=headers, stream=True, timeout=30) as streamed:
        first = next(line for line in streamed.iter_lines() if line.startswith(b"data: "))
        response = json.loads(first.removeprefix(b"data: "))["response"]["id"]
        refused = call(keyed, secret, "POST", f"/responses/{response}/cancel", web=1)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "not_cancellable")
    compacted = call(keyed, secret, "POST", "/responses/compact", {"model": "m", "input": "hello"}).json()
    assert compacted["output"][0]["type"] == "compaction"


def test_nothing_is_left_of_an_unstored_response_but_what_it_used(keyed: Deployment) -> None:
    secret = new_key(keyed, "unstored")
    used = ask(keyed, secret, store=False).json()["usage"]

    def charged() -> str:
        return requests.get(keyed.url() + "/metrics", timeout=30).text

    wanted = 'chatbot_api_key_requests_total{key="unstored",outcome="replied"} 1.0'
    eventually(lambda: wanted in charged(), what="the sweep settles the charge")
    for kind, name in (("prompt", "input_tokens"), ("completion", "output_tokens")):
        assert f'chatbot_api_key_tokens_total{{key="unstored",kind="{kind}"}} {float(used[name])}' in charged()


def test_what_is_charged_is_what_the_model_server_counted_though_processes_are_killed(keyed: Deployment) -> None:
    model: ModelServer = keyed.model  # type: ignore[attr-defined]
    model.control(first=50, interval=20, tokens=10)
    findings = key_usage.run(keyed, model, kills=2, callers=3, pause=0.2)
    assert [finding for finding in findings if not finding.met] == []
