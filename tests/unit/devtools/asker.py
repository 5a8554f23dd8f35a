"""One client for all protocols of the fake model server."""

from __future__ import annotations

import json
from typing import Any

import requests

from devtools.fake_model import ModelServer


def prompt(text: str) -> str:
    return f"A talk.\nHuman: before\nBot: yes\nHuman: {text}\nBot:"


class Asker:
    """Sends the same request in each protocol."""

    def __init__(self, http: requests.Session, server: ModelServer, protocol: str) -> None:
        self.http, self.server, self.protocol = http, server, protocol

    def body(self, text: str, **more: Any) -> tuple[str, dict[str, Any]]:
        if self.protocol == "chat":
            messages = [{"role": "system", "content": "A talk."}, {"role": "user", "content": text}]
            return "/v1/chat/completions", {"messages": messages} | more
        if self.protocol == "completions":
            return "/v1/completions", {"prompt": prompt(text), "max_tokens": 100} | more
        stream, parameters = more.pop("stream", False), {"return_full_text": False} | more
        return "/", {"inputs": prompt(text), "parameters": parameters, "stream": stream}

    def post(self, text: str, **more: Any) -> requests.Response:
        path, body = self.body(text, **more)
        url, streams = self.server.url + path, more.get("stream", False)
        return self.http.post(url, json=body, stream=streams, allow_redirects=False, timeout=10)

    def chunks(self, text: str, **more: Any) -> list[str]:
        return [self.chunk(event) for event in events(self.post(text, stream=True, **more))]

    def chunk(self, event: dict[str, Any]) -> str:
        if self.protocol == "tgi":
            return "" if event["token"]["special"] else str(event["token"]["text"])
        (choice,) = event["choices"]
        return str(choice["delta"]["content"] if self.protocol == "chat" else choice["text"])

    def reply(self, text: str, **more: Any) -> str:
        answer = self.post(text, **more).json()
        if self.protocol == "tgi":
            return str(answer[0]["generated_text"])
        (choice,) = answer["choices"]
        return str(choice["message"]["content"] if self.protocol == "chat" else choice["text"])


def events(response: requests.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"] == "text/event-stream"
    lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith(b"data:") for line in lines)
    return [json.loads(line.removeprefix(b"data:")) for line in lines if line != b"data: [DONE]"]
