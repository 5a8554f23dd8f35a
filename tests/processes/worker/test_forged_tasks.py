"""A worker against elements of its queues that are no tasks: it drops them, with one log line each, and goes on."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from chatbot.queue.celery_app import GENERATE_REPLY
from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient
from devtools.harness.deployment import Deployment, eventually

SECRET = "unmistakably-forged"
#: The list of kombu's queue `celery` for ordinary tasks, and the one for tasks of the priority 3.
LISTS = ("celery", "celery\x06\x163")


def task(name: str = GENERATE_REPLY, arguments: object = (SECRET,)) -> dict[str, Any]:
    """A task as Celery's producer writes it."""
    embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return {
        "body": encoded([arguments, {}, embedded]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            **{"lang": "py", "task": name, "id": "an-id", "shadow": None, "eta": None, "expires": None, "group": None},
            **{"retries": 0, "timelimit": [None, None], "root_id": "an-id", "parent_id": None, "origin": "a-test"},
        },
        "properties": {
            **{"correlation_id": "an-id", "reply_to": "a-test", "delivery_mode": 2, "priority": 0},
            **{"body_encoding": "base64", "delivery_tag": "a-tag"},
            "delivery_info": {"exchange": "", "routing_key": "celery"},
        },
    }


def encoded(document: object) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


def changed(*path: str, value: object) -> dict[str, Any]:
    forged = task()
    place = forged
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return forged


def without(*path: str) -> dict[str, Any]:
    forged = task()
    place = forged
    for name in path[:-1]:
        place = place[name]
    del place[path[-1]]
    return forged


def paths(document: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, value in document.items():
        yield (name,)
        if isinstance(value, dict):
            yield from ((name, *rest) for rest in paths(value))


BODIES: tuple[object, ...] = ([], {}, None, 5, [[SECRET]], [5, 5, 5], [[SECRET], [], {}])
ARGUMENTS: tuple[object, ...] = ([SECRET, 1], [{}], [[SECRET]], [None], {SECRET: 1})
JUNK: list[bytes] = [
    *(b"x", b"", b"[]", b"{}", b"null", b"5", b'"text"', b"\xff\xfe", b"[" * 100_000, b"1" * 5000, b"{}" * 2),
    *(json.dumps({"__type__": kind, "__value__": "x"}).encode() for kind in ("uuid", "decimal", "datetime", "bytes")),
    b'{"properties": {}}',
    b'{"properties": {"delivery_tag": []}, "headers": {}}',
]
FORGED: list[dict[str, Any]] = [
    *(changed(*path, value=value) for path in paths(task()) for value in (None, 7, SECRET, [SECRET], {SECRET: [1]})),
    *(without(*path) for path in paths(task())),
    *(changed("content-type", value=kind) for kind in ("application/x-python-serialize", "application/x-yaml")),
    *(changed("content-encoding", value=kind) for kind in ("binary", "zlib", "rot13")),
    changed("headers", "compression", value="bzip2"),
    changed("headers", "compression", value=[SECRET]),
    changed("headers", "eta", value="2999-01-01T00:00:00"),
    changed("headers", "stamps", value=7),
    *(changed("body", value=encoded(body)) for body in BODIES),
    changed("body", value=encoded([[SECRET], {}, {"callbacks": [{"task": "chatbot.sweep"}], "chain": [5]}])),
    *(task(arguments=arguments) for arguments in ARGUMENTS),
    task("no.such.task"),
]


@pytest.fixture(scope="module")
def forged(model: ModelServer) -> Iterator[Deployment]:
    with Deployment(model.url, log_level="INFO") as deployment:
        yield deployment


def push(chat: Deployment, *elements: bytes) -> None:
    """Waits until the worker has fetched the elements, and answers a user after them."""
    for element in elements:
        chat.client.lpush("celery", element)
    eventually(lambda: chat.client.llen("celery") == 0, what="the queue is empty")
    with ChatClient(chat.url()) as client:
        assert client.ask("are you there?")["finish_reason"] == "stop"


# Fewer for the second list: more than twenty lines of a kind would become a summary.
@pytest.mark.parametrize(("key", "junk"), [(LISTS[0], JUNK), (LISTS[1], JUNK[::3])], ids=LISTS)
def test_an_element_that_is_no_message_is_dropped_with_one_line(
    key: str, junk: list[bytes], forged: Deployment
) -> None:
    worker = forged.workers[0]
    before = len(worker.log)
    forged.client.lpush(key, *junk)
    eventually(lambda: forged.client.llen(key) == 0, what="the list is empty")
    push(forged)
    assert worker.running, worker.log[-3000:]
    lines = [line for line in worker.log[before:].splitlines() if "dropped" in line]
    assert len(lines) == len(junk)
    assert not worker.traceback(before)


def test_a_message_that_is_no_task_is_dropped_with_one_line(forged: Deployment) -> None:
    worker = forged.workers[0]
    before = len(worker.log)
    push(forged, *(json.dumps(element).encode() for element in FORGED))
    assert worker.running, worker.log[-3000:]
    log = worker.log[before:]
    assert "Traceback" not in log
    assert SECRET not in log
    assert not {"ERROR", "CRITICAL"} & set(log.split())


@pytest.mark.parametrize("name", ["chatbot.sweep", "chatbot.of_another_version"])
def test_a_task_of_another_version_is_dropped_without_a_warning(name: str, forged: Deployment) -> None:
    worker = forged.workers[0]
    before = len(worker.log)
    element = task(name, [])
    push(forged, json.dumps(element).encode())
    assert not {"WARNING", "ERROR", "CRITICAL"} & set(worker.log[before:].split())


def test_junk_in_the_channel_of_remote_control_does_no_harm(forged: Deployment) -> None:
    worker = forged.workers[0]
    for junk in (*JUNK, *(json.dumps(copy.deepcopy(element)).encode() for element in FORGED[:200])):
        forged.client.publish("/0.celery.pidbox", junk)
    push(forged)
    assert worker.running, worker.log[-3000:]
