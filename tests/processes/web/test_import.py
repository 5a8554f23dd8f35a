"""`POST /import` against real processes: an exported chat goes on in a session of its own."""

from __future__ import annotations

import requests

from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, history
from devtools.harness.deployment import Deployment


def send(url: str, **body: object) -> requests.Response:
    return requests.post(url + "/import", timeout=30, **body)  # type: ignore[arg-type]


def test_an_exported_chat_is_read_and_goes_on_after_its_import(chat: Deployment, model: ModelServer) -> None:
    with ChatClient(chat.url(0)) as first:
        first.ask("hello")
        file = requests.get(chat.url(0) + "/refresh_token", params={"token": first.token}, timeout=30).json()
    answer = send(chat.url(0), json=file)
    assert answer.status_code == 200
    session = answer.json()
    assert (session["name"], session["messages"]) == (file["name"], [])
    assert session["token"] != first.token
    assert history(chat.url(1), session["token"]) == file["messages"]
    with ChatClient(chat.url(1), session["token"]) as client:
        client.ask("and now?")
    prompt = model.requests()[-1].prompt or ""
    assert [text for text in prompt.split("\n") if "hello" in text or "and now?" in text] == [
        "Human: hello",
        f"Bot: {file['messages'][1]['msg']}",
        "Human: and now?",
    ]


def test_a_file_that_is_foreign_damaged_or_too_large_is_refused(chat: Deployment) -> None:
    for body in (b"", b"<html>", b'{"conversations": []}'):
        refused = send(chat.url(), data=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_import")
    assert send(chat.url(), data=b'{"messages": "' + b" " * 4 * 1024 * 1024).status_code == 413
