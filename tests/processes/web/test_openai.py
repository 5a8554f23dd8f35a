"""OpenAI's own client against the interfaces below `/v1`: real processes, real kills."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import openai
import pytest
import requests

from chatbot.config import OPENAI_RESPONSES
from chatbot.protocol.openai.stream_events import DELTA
from chatbot.worker.models.call import Call
from chatbot.worker.models.errors import PromptTooLong
from chatbot.worker.prompts import PromptMessage
from chatbot.worker.stream import THINKS_AGAIN
from devtools.fake_model import ModelServer
from devtools.harness.deployment import PATIENCE, Deployment, eventually
from tests.support.models import ask, at

TOOL: Any = {
    "type": "function",
    "name": "look",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
}
IMAGE: Any = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"}


@pytest.fixture(scope="module")
def served(model: ModelServer) -> Iterator[Deployment]:
    """Two web processes and two workers on a chat model."""
    with Deployment(f"{model.url}/v1/chat/completions", webs=2, workers=2, model_attempts=2) as deployment:
        yield deployment


_clients: list[openai.OpenAI] = []


@pytest.fixture(autouse=True, scope="module")
def close_clients() -> Iterator[None]:
    yield
    for opened in _clients:
        opened.close()


@lru_cache
def client(served: Deployment, web: int = 0) -> Any:
    """The client untyped: its unions of all items and events of OpenAI's own service say little here."""
    opened = openai.OpenAI(base_url=f"{served.url(web)}/v1", api_key="any", max_retries=0)
    _clients.append(opened)
    return opened


def said(text: str) -> str:
    """What the model answers, with six words at least."""
    words = f"You said: {text} .".split(" ")
    return " ".join([*words, *(f"w{number}" for number in range(1, 7 - len(words)))])


def session_count(served: Deployment) -> int:
    return len(served.client.keys("chat:{*}:session"))


def test_a_response_is_continued_from_any_process_and_from_an_earlier_one(
    served: Deployment, model: ModelServer
) -> None:
    first = client(served).responses.create(model="m", input="one", instructions="Be brief.", metadata={"a": "b"})
    assert (first.output_text, first.status, first.metadata) == (said("one"), "completed", {"a": "b"})
    # By which the lines of the logs name it.
    assert first._request_id
    assert first.id.endswith(first._request_id)
    assert first.usage is not None
    assert first.usage.total_tokens == first.usage.input_tokens + first.usage.output_tokens > 0
    client(served, 1).responses.create(model="m", input="two", previous_response_id=first.id)
    third = client(served, 1).responses.create(
        model="m", input="three", previous_response_id=first.id, temperature=0.5, max_output_tokens=2
    )
    assert (third.status, third.output_text) == ("incomplete", "You said:")
    assert client(served).responses.retrieve(third.id) == third
    asked = model.requests()[-1].body
    assert [message["content"] for message in asked["messages"]] == ["one", said("one"), "three"]
    assert (asked["temperature"], asked["max_tokens"]) == (0.5, 2)
    api = client(served).responses
    for order in ("asc", "desc"):
        items = list(api.input_items.list(third.id, order=order, limit=1))
        assert [item.role for item in items] == ["user", "assistant", "user"]
    with pytest.raises(openai.BadRequestError, match="after is the id of none"):
        api.input_items.list(third.id, after=first.output[0].id)
    # As the AI SDK goes on with a conversation.
    referred: Any = [{"role": "user", "content": "one"}, {"id": first.output[0].id}, {"role": "user", "content": "two"}]
    assert api.create(model="m", input=referred).output_text == said("two")
    assert (model.requests()[-1].messages or [])[1:2] == [{"role": "assistant", "content": said("one")}]


def test_a_function_is_called_and_its_output_is_answered(served: Deployment) -> None:
    api = client(served).responses
    events = list(api.create(model="m", input=[{"role": "user", "content": [IMAGE]}], tools=[TOOL], stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    first = events[-1].response
    (call,) = first.output
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "look", {"at": ""})
    answer = {"type": "function_call_output", "call_id": call.call_id, "output": "a heart"}
    second = api.create(model="m", input=[answer], previous_response_id=first.id)
    assert second.output_text == said("a heart")
    with pytest.raises(openai.BadRequestError, match="call_id"):
        api.create(model="m", input=[{**answer, "call_id": "other"}], previous_response_id=first.id)


def test_a_response_in_the_background_is_cancelled(served: Deployment, model: ModelServer) -> None:
    api = client(served).responses
    begun = api.create(model="m", input="!tokens=1000 !interval=20 for long", background=True)
    # A worker may have begun before the answer was read.
    assert begun.status in ("queued", "in_progress")
    eventually(lambda: api.retrieve(begun.id).output_text)
    ended = api.cancel(begun.id)
    assert ended.status == "cancelled"
    assert ended.output_text
    assert api.cancel(begun.id) == ended
    waited_for = api.create(model="m", input="one")
    with pytest.raises(openai.BadRequestError, match="background"):
        api.cancel(waited_for.id)
    model.wait_until(lambda records: all(record.outcome for record in records))


def test_a_response_is_deleted_while_its_reply_is_generated(served: Deployment) -> None:
    api = client(served).responses
    first = api.create(model="m", input="one")
    text = "!tokens=1000 !interval=20 for long"
    running = [api.create(model="m", input=text, background=True, previous_response_id=first.id) for _ in range(3)]
    eventually(lambda: api.retrieve(running[0].id).output_text)
    for begun in running:
        api.delete(begun.id)
        with pytest.raises(openai.NotFoundError):
            api.retrieve(begun.id)
    assert api.create(model="m", input="two", previous_response_id=first.id).output_text == said("two")


@pytest.mark.parametrize("path", ["responses", "chat/completions"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_cancels_its_reply(
    served: Deployment, model: ModelServer, path: str, stream: bool
) -> None:
    text = "!tokens=1000 !interval=20 for long"
    body = {"input": text, "messages": [{"role": "user", "content": text}], "stream": stream}
    connection = http.client.HTTPConnection(served.url().removeprefix("http://"))
    connection.request("POST", f"/v1/{path}", json.dumps(body))
    model.wait_until(lambda records: len(records) == 1)
    connection.close()
    model.wait_until(lambda records: [record.outcome for record in records] == ["closed_by_client"])


def test_what_is_not_stored_leaves_nothing_behind(served: Deployment) -> None:
    before = session_count(served)
    api = client(served)
    assert api.responses.create(model="m", input="secret", store=False).output_text == said("secret")
    list(api.responses.create(model="m", input="secret", store=False, stream=True))
    api.chat.completions.create(model="m", messages=[{"role": "user", "content": "secret"}])
    assert session_count(served) == before
    kept = api.responses.create(model="m", input="kept")
    api.responses.create(model="m", input="more", previous_response_id=kept.id, store=False)
    assert session_count(served) == before + 1
    api.responses.delete(kept.id)
    assert session_count(served) == before
    with pytest.raises(openai.NotFoundError):
        api.responses.retrieve(kept.id)


def test_a_chat_completion_is_streamed_with_its_tokens(served: Deployment, model: ModelServer) -> None:
    model.control(hold=2)
    chunks = []
    for chunk in client(served).chat.completions.create(
        model="m",
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
        stream=True,
        stream_options={"include_usage": True},
    ):
        chunks.append(chunk)
        if chunk.choices and chunk.choices[0].delta.content:
            model.control(hold=None)
    *parts, last = chunks
    texts = [chunk.choices[0].delta.content for chunk in parts if chunk.choices[0].delta.content]
    assert "".join(texts) == said("hello")
    assert len(texts) > 1
    assert parts[-1].choices[0].finish_reason == "stop"
    assert last.usage is not None
    assert last.usage.completion_tokens > 0


def test_a_chat_completion_shows_what_the_model_thinks(served: Deployment, model: ModelServer) -> None:
    ask: Any = {
        "model": "m",
        "messages": [{"role": "user", "content": "!say=<think>let me see</think>yes"}],
    }
    chat = client(served).chat.completions
    said = chat.create(**ask).choices[0].message
    assert (said.reasoning_content, said.content) == ("let me see", "yes")
    # In the middle of the thought.
    model.control(hold=4)
    deltas = []
    for chunk in chat.create(**ask, stream=True):
        deltas.append(chunk.choices[0].delta)
        if getattr(deltas[-1], "reasoning_content", None):
            model.control(hold=None)
    thought = [delta.reasoning_content for delta in deltas if getattr(delta, "reasoning_content", None)]
    assert "".join(thought) == "let me see"
    assert len(thought) > 1
    assert "".join(delta.content or "" for delta in deltas) == "yes"


def test_a_chat_completion_calls_a_function(served: Deployment, model: ModelServer) -> None:
    function = {name: TOOL[name] for name in ("name", "parameters")}
    ask: Any = {"model": "m", "messages": [{"role": "user", "content": "the sky"}]}
    ask["tools"] = [{"type": "function", "function": function}]
    chat = client(served).chat.completions
    choice = chat.create(**ask).choices[0]
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, call.function.name, call.function.arguments) == (
        "tool_calls",
        "look",
        '{"at": "the sky"}',
    )
    ask["messages"][0]["content"] = "sky"
    model.control(hold=2)
    parts: list[Any] = []
    for last in chat.create(**ask, stream=True):
        parts += last.choices[0].delta.tool_calls or ()
        if parts:
            model.control(hold=None)
    assert [part.function.name for part in parts if part.id] == ["look"]
    assert "".join(part.function.arguments for part in parts) == '{"at": "sky"}'
    assert len(parts) > 1
    assert last.choices[0].finish_reason == "tool_calls"


def test_this_server_is_a_model_server_of_the_responses_protocol(served: Deployment) -> None:
    model = at(f"{served.url()}/v1/responses", OPENAI_RESPONSES)
    assert ask(model, "hello") == (said("hello"), "stop")
    call = Call(30)
    call.options = {"tools": [TOOL]}
    call.options |= {"stream": "events"}

    def called() -> int:
        """The chunks of a call: fewer where a process was late."""
        *chunks, last = model.generate([PromptMessage("user", "!interval=50 sky")], call)
        assert [(one["name"], one["arguments"]) for one in last.calls] == [("look", '{"at": "!interval=50 sky"}')]
        assert all(last.calls[0]["arguments"].startswith(chunk.calls[0]["arguments"]) for chunk in chunks)
        assert last.usage is not None
        assert not last.usage.estimated
        return len(chunks)

    eventually(lambda: called() > 2, what="the arguments come in parts")
    with pytest.raises(PromptTooLong):
        ask(model, "!fault=invalid x")


def test_a_failure_of_the_model_is_an_error_of_the_response(served: Deployment) -> None:
    api = client(served)
    failed = api.responses.create(model="m", input="!fault=unauthorized x")
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error.message
    with pytest.raises(openai.APIStatusError) as refused:
        api.chat.completions.create(model="m", messages=[{"role": "user", "content": "!fault=unauthorized x"}])
    assert refused.value.status_code == 502


def test_what_the_model_finds_too_long_is_the_requests_fault(served: Deployment) -> None:
    api = client(served)
    ask: Any = {"model": "m", "messages": [{"role": "user", "content": "!fault=invalid x"}]}
    with pytest.raises(openai.BadRequestError) as refused:
        api.chat.completions.create(**ask)
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "messages")
    with pytest.raises(openai.APIError) as streamed:
        list(api.chat.completions.create(**ask, stream=True))
    assert streamed.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as whole:
        api.responses.create(model="m", input="!fault=invalid x")
    assert (whole.value.code, whole.value.param) == ("context_length_exceeded", "input")
    *_, last = api.responses.create(model="m", input="!fault=invalid x", stream=True)
    assert (last.type, last.response.error.code) == ("response.failed", "context_length_exceeded")


def test_a_request_that_is_repeated_under_its_key_is_answered_once(served: Deployment, model: ModelServer) -> None:
    """The client gives up, and asks another web process."""
    text = "!interval=50 once"
    for path, body in (
        ("responses", {"input": text}),
        ("responses", {"input": text, "store": False, "stream": True}),
        ("chat/completions", {"messages": [{"role": "user", "content": text}]}),
    ):
        before = len(model.requests())
        answers = []
        for web, timeout, key in ((0, 0.2, "one"), (1, PATIENCE, "one"), (1, PATIENCE, "one"), (1, PATIENCE, "two")):
            with contextlib.suppress(requests.Timeout):
                answers.append(
                    requests.post(
                        f"{served.url(web)}/v1/{path}", json=body, headers={"Idempotency-Key": key}, timeout=timeout
                    ).text
                )
        *repeated, other = answers
        assert {*repeated} == {repeated[0]} != {other}
        assert len(model.requests()) == before + 2


def test_errors_have_the_form_of_openai(served: Deployment, chat: Deployment) -> None:
    api = client(served).responses
    with pytest.raises(openai.BadRequestError) as missing:
        api.create(model="m", input="x", previous_response_id="resp_unknown")
    body: Any = missing.value.body
    assert body["code"] == "previous_response_not_found"
    assert body.keys() == {"message", "type", "param", "code"}
    with pytest.raises(openai.NotFoundError):
        api.retrieve("resp_unknown")
    with pytest.raises(openai.BadRequestError) as unsupported:
        client(chat).responses.create(model="m", input="x", tools=[TOOL])
    assert unsupported.value.param == "tools"
    refused = requests.get(f"{served.url()}/v1/responses", timeout=30)
    assert (refused.status_code, refused.json()["error"]["type"]) == (405, "invalid_request_error")
    packed = {"Content-Encoding": "gzip"}
    refused = requests.post(f"{served.url()}/v1/responses", data=gzip.compress(b"{}"), headers=packed, timeout=30)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "Content-Encoding")
    with openai.OpenAI(base_url=served.url(), api_key="any") as lost, pytest.raises(openai.NotFoundError, match="/v1"):
        lost.models.list()
    foreign = {"Origin": "https://elsewhere.example"}
    assert (
        requests.post(f"{served.url()}/v1/responses", json={"input": "x"}, headers=foreign, timeout=30).status_code
        == 403
    )


def test_the_websocket_continues_what_is_not_stored_on_the_same_connection_alone(
    served: Deployment, model: ModelServer
) -> None:
    def respond(connection: Any, **request: Any) -> Any:
        connection.response.create(model="m", store=False, **request)
        for event in connection:
            if event.type in ("response.completed", "error"):
                return event
        raise AssertionError("the connection was closed")

    before = session_count(served)
    with client(served).responses.connect() as connection:
        # As OpenAI's Agents SDK sends each frame.
        first = respond(connection, input="one", stream=True).response
        assert respond(connection, input="one", background=True).error.param == "background"
        second = respond(connection, input="two", previous_response_id=first.id).response
        assert second.previous_response_id == first.id
        asked = model.requests()[-1].messages or []
        assert [message["content"] for message in asked] == ["one", said("one"), "two"]
        lost = respond(connection, input="three", previous_response_id=first.id)
        assert lost.error.code == "previous_response_not_found"
        assert respond(connection, input="four").type == "response.completed"
    with client(served, 1).responses.connect() as connection:
        lost = respond(connection, input="three", previous_response_id=second.id)
        assert lost.error.code == "previous_response_not_found"
    assert session_count(served) == before


def test_waiting_requests_hold_no_worker(served: Deployment, model: ModelServer) -> None:
    with contextlib.ExitStack() as waiting:
        for number in range(20):
            connection = http.client.HTTPConnection(served.url().removeprefix("http://"), timeout=PATIENCE)
            waiting.callback(connection.close)
            connection.request("POST", "/v1/responses", json.dumps({"input": f"!first=60000 {number}"}))
        model.wait_until(lambda records: len(records) == 20)
        assert client(served).responses.create(model="m", input="at once").status == "completed"
        assert sum(record.outcome is None for record in model.requests()) == 20
    model.wait_until(lambda records: all(record.outcome for record in records))


@pytest.mark.parametrize("kind", ["response.function_call_arguments.delta", "response.reasoning_summary_text.delta"])
def test_calls_and_thoughts_go_on_when_their_worker_is_killed(
    served: Deployment, model: ModelServer, kind: str
) -> None:
    thoughts = "!say=<think>" + "let me see, " * 30 + "</think>yes"
    asked: Any = {"input": thoughts} if "reasoning" in kind else {"input": "x" * 600, "tools": [TOOL]}
    seen: list[Any] = []
    # Each event lets some more chunks come, until the workers are killed in the middle.
    model.control(hold=10)
    for event in client(served).responses.create(model="m", stream=True, **asked):
        seen.append(event)
        if event.type != kind:
            continue
        count = sum(one.type == kind for one in seen)
        if count < 3:
            model.control(hold=10 * (count + 1))
        elif count == 3:
            for worker in served.workers:
                worker.kill()
            model.control(hold=None)
            for worker in served.workers:
                worker.start()
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    sent = "".join(event.delta for event in seen if event.type == kind)
    last = seen[-1].response
    assert last.status == "completed"
    if "reasoning" in kind:
        assert sent == last.output[0].summary[0].text
        before, again = sent.split(THINKS_AGAIN)
        assert (last.output_text, again.strip()) == ("yes", ("let me see, " * 30).strip())
        assert again.startswith(before[:40])
    else:
        assert (len(last.output), sent) == (1, last.output[0].arguments)
        assert json.loads(sent) == {"at": asked["input"]}


@pytest.mark.parametrize("killed", ["workers", "web"])
def test_a_stream_goes_on_in_another_process_when_its_own_is_killed(served: Deployment, killed: str) -> None:
    """The last test of the module: it leaves one web process dead."""
    stream = client(served).responses.create(
        model="m", input="!tokens=60 !interval=10 go on", background=True, stream=True
    )
    seen: list[Any] = []
    with contextlib.suppress(openai.APIError):
        for event in stream:
            seen.append(event)
            if len(seen) == 20 and killed == "web":
                served.webs[0].kill()
            elif len(seen) == 20:
                for worker in served.workers:
                    worker.kill()
                for worker in served.workers:
                    worker.start()
    known = seen[0].response.id
    seen += client(served, 1).responses.retrieve(known, stream=True, starting_after=seen[-1].sequence_number)
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    text = "".join(event.delta for event in seen if event.type == "response.output_text.delta")
    # What a dead worker has sent is never changed: the reply goes on where it was.
    assert seen[-1].type == "response.completed"
    assert text == seen[-1].response.output_text
    assert len(text) > 10 * DELTA
