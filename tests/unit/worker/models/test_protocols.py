"""One contract for every protocol, against a model server of our own."""

from __future__ import annotations

import json

import pytest

from chatbot.config import OPENAI_CHAT
from chatbot.worker.models.call import Call
from chatbot.worker.models.errors import PermanentModelError
from chatbot.worker.models.protocols import huggingface
from chatbot.worker.prompts import PromptMessage
from devtools.fake_model import ModelServer
from tests.support.models import PATHS, ModelFactory, answer, answering, ask, at

BASE_MODELS = [path for path, api in PATHS.items() if api != OPENAI_CHAT]


def test_a_question_gets_its_reply(make: ModelFactory) -> None:
    reply, reason = ask(make(), "what is this?")
    assert reply.startswith("You said: what is this?")
    assert reason in ("stop", "length")


def test_the_reply_comes_in_chunks(make: ModelFactory, model: ModelServer) -> None:
    model.control(interval=20)
    pieces = list(make().generate([PromptMessage("user", "slowly")], Call(30)))
    # Those that arrive together are one.
    assert len([p for p in pieces if p.text]) >= 2
    assert sum(p.chunks for p in pieces if p.text) >= 4


def test_a_reply_at_the_length_limit_ends_with_the_reason_length(make: ModelFactory) -> None:
    reply, reason = ask(make(max_new_tokens=3), "!tokens=50")
    assert reason == "length"
    assert len(reply.split()) <= 3


def test_sampling_is_left_to_the_server_unless_it_is_set(make: ModelFactory, model: ModelServer) -> None:
    ask(make(), "as you like")
    ask(make(temperature=0.5, top_p=0.9, seed=7), "as I like")
    ask(make(temperature=0.0), "without chance")
    bodies = [r.body.get("parameters", r.body) for r in model.requests()]
    names = ("temperature", "top_p", "seed")
    assert [bodies[0].get(name) for name in names] == [None] * 3
    assert [bodies[1].get(name) for name in names] == [0.5, 0.9, 7]
    assert bodies[2].get("temperature", 0) == 0
    assert bodies[2].get("do_sample", False) is False


def test_a_reply_without_text_is_an_empty_reply(make: ModelFactory) -> None:
    assert ask(make(), "!say= ")[0] == ""


@pytest.mark.parametrize("path", BASE_MODELS)
@pytest.mark.parametrize("dialect", ["", "!fault=lax "])
def test_a_base_model_does_not_write_the_users_messages(path: str, dialect: str, model: ModelServer) -> None:
    asked = at(model.url + path, PATHS[path], max_new_tokens=500)
    reply, reason = ask(asked, f"{dialect}!say=I am the bot.\\nHuman: and I am you\\nBot: indeed")
    assert (reply, reason) == ("I am the bot.", "stop")


def test_every_dialect_gets_a_reply(make: ModelFactory) -> None:
    for dialect in ("lax", "strict"):
        assert ask(make(), f"!fault={dialect} hello")[0].startswith("You said: !fault=")


@pytest.mark.parametrize("use_cache", [True, False])
def test_the_tutorials_parameter_is_sent_only_where_the_protocol_has_it(
    make: ModelFactory, model: ModelServer, use_cache: bool
) -> None:
    ask(make(), "without")
    ask(make(use_cache=use_cache), "with")
    bodies = [r.body for r in model.requests()]
    assert "use_cache" not in json.dumps(bodies[0])
    assert ["use_cache" in json.dumps(bodies[1]), bodies[1].get("parameters", {}).get("use_cache", use_cache)] == [
        "parameters" in bodies[1],
        use_cache,
    ]


def test_generate_is_used_without_streaming_when_there_is_no_generate_stream() -> None:
    whole = answer("200 OK", json.dumps({"generated_text": " As a whole."}))
    with answering(answer("404 Not Found", ""), whole, whole) as url:
        asked = at(f"{url}/generate")
        assert ask(asked, "hello") == ("As a whole.", "stop")
        # It is remembered: the second question takes one request.
        assert ask(asked, "hello") == ("As a whole.", "stop")


STREAM = 'data: {"generated_text": "Streamed.", "token": {"text": "Streamed."}}\n\n'


def test_a_404_without_an_answer_elsewhere_does_not_turn_streaming_off() -> None:
    missing, streamed = answer("404 Not Found", ""), answer("200 OK", STREAM, "text/event-stream")
    with answering(missing, missing, streamed) as url:
        asked = at(f"{url}/generate")
        with pytest.raises(PermanentModelError):
            ask(asked, "while the server starts")
        assert ask(asked, "hello") == ("Streamed.", "stop")


def test_streaming_is_tried_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "_STREAM_RETRY", 0.0)
    whole = answer("200 OK", json.dumps({"generated_text": " As a whole."}))
    with answering(answer("404 Not Found", ""), whole, answer("200 OK", STREAM, "text/event-stream")) as url:
        asked = at(f"{url}/generate")
        assert ask(asked, "during an update") == ("As a whole.", "stop")
        assert ask(asked, "after it") == ("Streamed.", "stop")


def test_a_service_that_refuses_max_tokens_gets_max_completion_tokens() -> None:
    text = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
    refused = answer("400 Bad Request", json.dumps({"error": {"message": text, "type": "invalid_request_error"}}))
    reply = answer("200 OK", json.dumps({"choices": [{"message": {"content": "Hi."}, "finish_reason": "stop"}]}))
    with answering(refused, reply, reply) as url:
        asked = at(f"{url}/v1/chat/completions", OPENAI_CHAT)
        assert ask(asked, "hello") == ("Hi.", "stop")
        assert ask(asked, "hello") == ("Hi.", "stop")
