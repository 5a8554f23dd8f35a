"""What an API key is charged while processes are killed: the sums, and the model server's own log."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import requests

from chatbot.api_keys.charges import Charges
from chatbot.api_keys.keys import ApiKey, ApiKeys
from chatbot.api_keys.usage import KeyUsage, read_by_name
from chatbot.store.keys import api_key_keys, session_keys
from devtools.chaos.findings import Finding
from devtools.chaos.restarts import restart_in_turn
from devtools.fake_model import ModelServer
from devtools.fake_model.state import DONE, Record
from devtools.harness.deployment import Deployment, eventually

#: Of kills in a row.
_VICTIMS = ("worker", "web", "worker", "redis")
_NAME = "chaos"
#: Seconds.
_PATIENCE = 60.0


@dataclass
class Callers:
    """Threads that ask for responses in the background, one after the other, whatever is killed."""

    chat: Deployment
    secret: str
    ended: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, count: int) -> None:
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(_PATIENCE)

    def _run(self, number: int) -> None:
        for turn in itertools.count():
            if self._stop.is_set():
                return
            body = {"model": "m", "input": f"caller {number} asks {turn}", "background": True}
            created = self._call("POST", "/v1/responses", body)
            while created and created["status"] in ("queued", "in_progress"):
                time.sleep(0.05)
                created = self._call("GET", f"/v1/responses/{created['id']}")
            with self._lock:
                self.ended += created is not None

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """The answer of any web process that serves; None once the callers stop."""
        headers = {"Authorization": f"Bearer {self.secret}"}
        for web in itertools.cycle(range(len(self.chat.webs))):
            try:
                answer = requests.request(method, self.chat.url(web) + path, json=body, headers=headers, timeout=20)
                if answer.status_code == 200:
                    found: dict[str, Any] = answer.json()
                    return found
                if answer.status_code not in (429, 503):
                    raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
            except requests.RequestException:
                pass
            if self._stop.wait(0.05):
                return None
        return None


def run(chat: Deployment, model: ModelServer, kills: int, callers: int, pause: float) -> list[Finding]:
    """Kills a process every `pause` seconds while `callers` ask with one key, then compares."""
    key, secret = ApiKeys(chat.client).create(_NAME, {})
    asking = Callers(chat, secret)
    asking.start(callers)
    eventually(lambda: asking.ended >= callers, _PATIENCE, "responses end before the first kill")
    restart_in_turn(chat, _VICTIMS, kills, pause)
    goal = asking.ended + callers
    eventually(lambda: asking.ended >= goal, _PATIENCE, "responses end after the last kill")
    asking.stop()
    eventually(lambda: not chat.client.zcard("chat:ledger"), _PATIENCE, "everything is answered")
    return compare(chat, model, key)


def compare(chat: Deployment, model: ModelServer, key: ApiKey) -> list[Finding]:
    """The sums of a key, what is stored with its replies, and the model server's log of the same requests."""
    charges = Charges(chat.client)
    eventually(lambda: charges.settle() == 0, _PATIENCE, "all charges are settled")
    charged = read_by_name(chat.client)[key.name]
    replies = dict(_replies(chat, key))
    stored = [reply["usage"] for reply in replies.values()]
    log = _last_calls(model)
    counted = {id_: reply["usage"] for id_, reply in replies.items() if not reply["usage"].get("estimated")}
    wrong = [id_ for id_, usage in counted.items() if _of(log.get(id_)) != _tokens(usage)]
    logged = [sum(column) for column in zip(*(_of(log.get(id_)) for id_ in counted), strict=True)]
    estimated = [usage for usage in stored if usage.get("estimated")]
    held = chat.client.hlen(api_key_keys(key.id).reserved)
    sums = [sum(column) for column in zip(*map(_tokens, stored), strict=True)]
    said = f"{charged.requests} and {charged.prompt_tokens} + {charged.completion_tokens}"
    same = [charged.requests, charged.prompt_tokens, charged.completion_tokens] == [len(stored), *sums]
    return [
        Finding("requests and tokens charged", f"{len(stored)} and {sums[0]} + {sums[1]}, as stored", said, same),
        Finding(
            f"{len(counted)} replies: tokens in the model server's log",
            "those stored with each",
            f"{logged[0]} + {logged[1]}, {len(wrong)} of them differ",
            not wrong,
        ),
        Finding("replies that a kill ended, charged by an estimate", "any", str(len(estimated)), True),
        Finding("reservations left behind by killed web processes", "any", str(held), True),
        _check_releases(charges, chat, key, charged),
    ]


def _check_releases(charges: Charges, chat: Deployment, key: ApiKey, before: KeyUsage) -> Finding:
    """What becomes of them after ten minutes."""
    charges.release_all(key.id)
    charges.settle()
    held, after = chat.client.hlen(api_key_keys(key.id).reserved), read_by_name(chat.client)[key.name]
    return Finding(
        "reservations after their release, and usage", "0, unchanged", f"{held}", not held and after == before
    )


def _replies(chat: Deployment, key: ApiKey) -> Iterator[tuple[str, dict[str, Any]]]:
    """The stored replies to the key's requests, by `<session>:<message>`."""
    for name in chat.client.scan_iter(session_keys("*").document, count=1000):
        text = chat.client.execute_command("JSON.GET", name)
        document = json.loads(text) if text else {}
        if document.get("name") == f"key:{key.id}":
            session = str(name).partition("{")[2].partition("}")[0]
            for message in document["messages"]:
                if message["source"] == "bot":
                    usage = message.get("usage") or {"prompt_tokens": 0, "completion_tokens": 0}
                    yield f"{session}:{message['reply_to']}", {**message, "usage": usage}


def _last_calls(model: ModelServer) -> dict[str, Record]:
    """The last call of each request that the model server answered to its end."""
    return {r.headers["x-request-id"]: r for r in model.requests() if r.outcome == DONE and "x-request-id" in r.headers}


def _of(record: Record | None) -> tuple[int, int]:
    """Tokens of the prompt and of the reply, as the stub counts them."""
    if record is None:
        return (0, 0)
    prompt = " ".join(str(message["content"]) for message in record.messages or [])
    return len(prompt.split()), record.tokens


def _tokens(usage: dict[str, Any]) -> tuple[int, int]:
    return usage["prompt_tokens"], usage["completion_tokens"]


def key_usage(kills: int = 50, callers: int = 12, pause: float = 1.2) -> list[Finding]:
    """The try of `make chaos`, with processes of its own."""
    with (
        ModelServer(first=50, interval=20, tokens=20) as model,
        Deployment(f"{model.url}/v1/chat/completions", webs=2, workers=2, api_keys="required") as chat,
    ):
        return run(chat, model, kills, callers, pause)
