"""Failures of model servers, over real processes: every message is settled exactly once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from chatbot.sessions.ids import session_id
from chatbot.sessions.leases import Leases
from chatbot.sessions.sessions import Sessions
from devtools.fake_model import ModelServer
from devtools.fake_model.faults import DIALECTS, FAULTS, LOADING
from devtools.harness.chat_client import ChatClient, history, new_session
from devtools.harness.deployment import Deployment
from tests.support.models import answer, answering

SECRET = "hf_a-made-up-token"
READ_TIMEOUT, TIMEOUT, ATTEMPTS, LOADING_TIMEOUT = 1, 3, 2, 2
#: Seconds until a user sees a failure: the time of one call, and what a busy machine adds.
SOON = TIMEOUT + 5

TRANSIENT = {
    *LOADING,
    *("rate_limited", "failed_dependency", "server_error", "html", "html_200", "empty_list", "broken_json"),
    *("error_in_stream", "cut_stream", "silent_stream", "silent"),
}
PERMANENT = {"unauthorized", "unauthorized_plain", "bad_request", "credits", "invalid", "redirect"}
ANSWERED = {"endless", "not_utf8", *DIALECTS}
#: Failures that are treated like loading: a proxy without its server, and silence before the first token.
UNAVAILABLE = {"html", "silent"}


@pytest.fixture(scope="module")
def failing(model: ModelServer) -> Iterator[Deployment]:
    with Deployment(
        model.url,
        huggingface_inference_token=SECRET,
        model_read_timeout=READ_TIMEOUT,
        model_timeout=TIMEOUT,
        model_attempts=ATTEMPTS,
        model_loading_timeout=LOADING_TIMEOUT,
        max_new_tokens=100_000,
    ) as deployment:
        yield deployment


class User(threading.Thread):
    """Sends one message, and receives until it is settled."""

    def __init__(self, url: str, text: str) -> None:
        super().__init__()
        self.url, self.text = url, text
        self.token = ""
        self.frames: list[dict[str, object]] = []
        self.first_frame_after = 0.0
        self.stored: list[dict[str, object]] = []

    def run(self) -> None:
        with ChatClient(self.url) as client:
            self.token = client.token
            client.send(self.text, "m1")
            client.until("ack")
            asked = time.monotonic()
            while True:
                frame = client.receive()
                self.first_frame_after = self.first_frame_after or time.monotonic() - asked
                if frame["type"] in ("message", "error"):
                    break
            # Any further frame about the message would arrive before the answer to this one.
            client.send_frame(type="stop")
            client.until("error", code="nothing_to_stop")
            self.frames = [f for f in client.frames if f.get("code") != "nothing_to_stop"]
            self.stored = history(self.url, client.token)


def test_every_failure_is_settled_once_and_soon(failing: Deployment, model: ModelServer) -> None:
    assert TRANSIENT | PERMANENT | ANSWERED == FAULTS
    model.control(estimated_time=0.2, retry_after=0.2)
    users = {fault: User(failing.url(), f"!fault={fault} my diary says nothing") for fault in FAULTS}
    for user in users.values():
        user.start()
    for user in users.values():
        user.join()

    for fault, user in users.items():
        settled = [f for f in user.frames if f["type"] in ("message", "error")]
        states = [f["state"] for f in user.frames if f["type"] == "status"]
        replies = [m for m in user.stored if m["source"] == "bot"]
        assert len(settled) == 1, (fault, user.frames)
        assert user.first_frame_after < SOON, fault
        if fault in ANSWERED:
            assert settled[0]["type"] == "message", fault
            assert len(replies) == 1, fault
            continue
        assert settled[0]["code"] == "model_error", fault
        assert replies == [], fault
        assert (states != []) == (fault in TRANSIENT), fault
        assert set(states) <= {"loading" if fault in {*LOADING, *UNAVAILABLE} else "retrying"}, fault

    log = "".join(process.log for process in failing.processes)
    for user in users.values():
        assert user.token not in log
    for secret in (SECRET, "diary", "w1 w2"):
        assert secret not in log


def test_a_prompt_that_the_model_finds_too_long_is_retried_with_less_of_the_history(
    failing: Deployment, model: ModelServer
) -> None:
    with ChatClient(failing.url()) as client:
        client.ask("one")
        client.ask("two")
        model.fault("invalid", 2)
        assert client.ask("three")["msg"].startswith("You said: three")
    prompts = [record.prompt or "" for record in model.requests()[-3:]]
    assert [prompt.count("\n") for prompt in prompts] == [5, 3, 1]


def test_a_message_that_is_too_long_for_the_model_has_an_error_of_its_own(
    failing: Deployment, model: ModelServer
) -> None:
    with ChatClient(failing.url()) as client:
        client.send("!fault=invalid hello")
        failure = client.until("error")
    assert failure["message"] == "This message is too long for the model."
    assert failure["reason"] == "context_length_exceeded"


def test_a_reply_that_grows_beyond_the_context_is_cut_there() -> None:
    events = [
        *({"choices": [{"text": text, "finish_reason": None}]} for text in (" I go", " on and")),
        {"error": {"message": "index 2048 is out of bounds for dimension 0 with size 2048"}},
    ]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    filtered = 'data: {"choices": [{"text": " No", "finish_reason": "content_filter"}]}\n\ndata: [DONE]\n\n'
    with (
        answering(*(answer("200 OK", each, "text/event-stream") for each in (body, filtered))) as url,
        Deployment(f"{url}/v1/completions") as chat,
        ChatClient(chat.url()) as client,
    ):
        reply = client.ask("go on")
        assert (reply["msg"], reply["finish_reason"]) == ("I go on and", "length")
        assert client.ask("how?")["finish_reason"] == "content_filter"


def test_the_next_of_several_servers_answers_and_no_text_comes_twice(model: ModelServer) -> None:
    with (
        ModelServer(tokens=6) as other,
        Deployment(f"{model.url},{other.url}/v1/completions", model_rest=60) as chat,
        ChatClient(chat.url()) as client,
    ):
        client.ask("which one?")
        # A session stays with one server: that one fails from now on.
        failing, working = (model, other) if model.requests() else (other, model)
        failing.fault("cut_stream", after=3)
        reply = client.ask("hello out there")
        assert reply["msg"].startswith("You said: hello out there")
        assert client.text[reply["id"]] == reply["msg"]
        assert len(client.of_type("message")) == 2
        for number in range(3):
            client.ask(f"and {number}")
        assert [len(failing.requests()), len(working.requests())] == [2, 4]


def test_a_long_history_costs_a_reply_what_a_short_one_costs(failing: Deployment) -> None:
    """Counted, not timed: the bytes that Redis reads and writes for a reply do not grow."""

    def traffic(messages: int) -> int:
        """Bytes that Redis receives and sends during 20 replies."""
        token = new_session(failing.url())["token"]
        fill(failing.client, session_id(token), messages)
        with ChatClient(failing.url(), token) as client:
            client.until("session")
            before = failing.client.info("stats")
            for number in range(20):
                client.ask(f"question {number}")
            after = failing.client.info("stats")
        assert len(history(failing.url(), token)) == messages + 40
        return sum(int(after[name]) - int(before[name]) for name in NET)

    # A reply that needed all messages would cost some hundred kilobytes; one costs about ten.
    short, long = traffic(10), traffic(2000)
    assert long < 2 * short


NET = ("total_net_input_bytes", "total_net_output_bytes")


def fill(client: redis.Redis, session: str, messages: int) -> None:
    """Adds this many messages to a session, half of them replies."""
    sessions = Sessions(client, ttl=3600, max_pending=8)
    leases = Leases(client, ttl=3600, history_messages=1)
    for number in range(messages // 2):
        sessions.requests.accept(session, f"h{number}", f"question {number}, as long as questions are")
        work = leases.claim(session)
        assert work is not None
        leases.commit(work, f"reply {number}, as long as replies are", "stop", go_on=False)
