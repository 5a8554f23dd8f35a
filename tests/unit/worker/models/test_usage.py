"""The tokens of a reply, as servers report them."""

from __future__ import annotations

from typing import Any

import pytest

from chatbot.config import HUGGINGFACE, OPENAI_CHAT, OPENAI_COMPLETIONS
from chatbot.worker.models.answers.usage import Usage, usage_of
from chatbot.worker.models.call import Call
from chatbot.worker.prompts import PromptMessage
from devtools.fake_model import ModelServer
from tests.support.models import answer, answering, ask, at


@pytest.mark.parametrize(
    ("document", "usage"),
    [
        pytest.param(
            {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}},
            Usage(9, None, 4),
            id="OpenAI",
        ),
        pytest.param(
            {"usage": {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 7}}},
            Usage(9, 7, 4),
            id="OpenAI with a cache",
        ),
        pytest.param(
            {"usage": {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": None}},
            Usage(9, None, 4),
            id="vLLM",
        ),
        pytest.param(
            {"usage": {"prompt_tokens": 9, "prompt_cache_hit_tokens": 6, "completion_tokens": 4}},
            Usage(9, 6, 4),
            id="DeepSeek",
        ),
        pytest.param(
            {"x_groq": {"id": "r", "usage": {"prompt_tokens": 9, "completion_tokens": 4}}}, Usage(9, None, 4), id="Groq"
        ),
        pytest.param(
            {"timings": {"cache_n": 7, "prompt_n": 2, "prompt_ms": 3.5, "predicted_n": 4}},
            Usage(9, 7, 4),
            id="llama.cpp",
        ),
        pytest.param(
            {"details": {"finish_reason": "length", "generated_tokens": 4, "input_length": 9}},
            Usage(9, None, 4),
            id="text-generation-inference",
        ),
        pytest.param(
            {"details": {"generated_tokens": 4, "prefill": [{"id": 1}] * 9, "tokens": []}},
            Usage(9, None, 4),
            id="text-generation-inference, whole",
        ),
        pytest.param({"done": True, "prompt_eval_count": 9, "eval_count": 4}, Usage(9, None, 4), id="Ollama"),
        pytest.param({"choices": [{"text": "x"}], "usage": None}, None, id="a chunk without"),
        pytest.param({"usage": {"prompt_tokens": True, "completion_tokens": "4"}}, None, id="nonsense"),
        pytest.param({"usage": {"prompt_tokens": -9, "completion_tokens": 10**400}}, None, id="absurd numbers"),
        pytest.param({"details": [1], "timings": "fast", "usage": 7, "x_groq": {"usage": 1}}, None, id="other types"),
    ],
)
def test_each_servers_report_is_understood(document: dict[str, Any], usage: Usage | None) -> None:
    assert usage_of(document, None) == usage


def test_the_last_report_counts_and_leaves_what_it_does_not_name() -> None:
    known = usage_of({"usage": {"prompt_tokens": 9, "completion_tokens": 1}}, None)
    known = usage_of({"choices": []}, known)
    known = usage_of({"usage": {"completion_tokens": 4}, "timings": {"cache_n": 7, "prompt_n": 2}}, known)
    assert known == Usage(9, 7, 4)


@pytest.mark.parametrize(
    ("path", "api", "usage"),
    [
        ("/v1/chat/completions", OPENAI_CHAT, Usage(2, 1, 6)),
        ("/v1/completions", OPENAI_COMPLETIONS, Usage(4, 2, 6)),
        ("/generate_stream", HUGGINGFACE, Usage(4, None, 7)),
    ],
)
def test_the_last_chunk_of_a_stream_has_the_usage(path: str, api: str, usage: Usage, model: ModelServer) -> None:
    pieces = list(at(model.url + path, api).generate([PromptMessage("user", "hello you")], Call(30)))
    assert [piece.usage for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert pieces[-1].usage == usage


def test_a_server_that_refuses_to_report_is_not_asked_again() -> None:
    refusal = '{"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs"}]}'
    reply = '{"choices": [{"message": {"content": "Hello!"}, "finish_reason": "stop"}]}'
    with answering(answer("422 Refused", refusal), answer("200 OK", reply)) as url:
        model = at(url, OPENAI_CHAT, in_loop=False)
        assert ask(model, "Hi") == ("Hello!", "stop")
        assert "stream_options" in model.dialect.known.dropped  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "api"),
    [("/v1/chat/completions", OPENAI_CHAT), ("/v1/completions", OPENAI_COMPLETIONS), ("/", HUGGINGFACE)],
)
def test_a_router_in_front_of_servers_gets_the_sessions_id(path: str, api: str, model: ModelServer) -> None:
    asked = at(model.url + path, api, session_header="X-Session-Id")
    ask(asked, "Hi", Call(30, session="5e55"))
    ask(asked, "Hi")
    known, unknown = model.requests()[-2:]
    assert known.headers["x-session-id"] == "5e55"
    assert known.body.get("prompt_cache_key") == ("5e55" if api == OPENAI_CHAT else None)
    assert "x-session-id" not in unknown.headers
    assert "prompt_cache_key" not in unknown.body
