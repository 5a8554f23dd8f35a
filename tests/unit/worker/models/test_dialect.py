"""Parameters and roles that a server does not take: given up for a refusal that says so, and for that server alone."""

# ruff: noqa: E501 - a row holds the words of one server

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chatbot.worker.models.call import Call
from chatbot.worker.models.errors import ModelError, RequestRefused
from chatbot.worker.prompts import PromptMessage
from tests.support.byte_server import CHAT, COMPLETIONS, HF, ByteServer, Wire, byte_server, reply, response

UNSUPPORTED = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)
SAMPLING = {"temperature": 0.5, "top_p": 0.9, "seed": 7}


@pytest.fixture(scope="module")
def server() -> Iterator[ByteServer]:
    with byte_server() as running:
        yield running


def refused(message: str, status: int = 400, **fields: Any) -> bytes:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None, **fields}
    return response(json.dumps({"error": error}), status=f"{status} Error")


def sent(server: ByteServer, wire: Wire) -> list[dict[str, Any]]:
    return [body.get("parameters", body) if wire is HF else body for body in server.requests]


def accepted(wire: Wire) -> bytes:
    return response(json.dumps(wire.whole("Hi.")))


def test_a_service_that_refuses_max_tokens_gets_max_completion_tokens(
    server: ByteServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.script(refused(UNSUPPORTED, param="max_tokens", code="unsupported_parameter"), accepted(CHAT))
    model = CHAT.model(server, max_new_tokens=77)
    assert [reply(model).text for _ in range(2)] == ["Hi.", "Hi."]
    limits = [(b.get("max_tokens"), b.get("max_completion_tokens")) for b in server.requests]
    assert limits == [(77, None), (None, 77), (None, 77)]
    assert (
        caplog.messages.count(
            f"{server.url}{CHAT.path} takes max_completion_tokens in place of max_tokens: used from now on"
        )
        == 1
    )
    # Another server is not changed.
    reply(CHAT.model(server))
    assert "max_tokens" in server.requests[-1]


MENTIONS = [
    "'max_tokens' or 'max_completion_tokens' is too large: 5000.",
    "max_tokens is deprecated in favour of max_completion_tokens; both must be positive",
    "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
    "Invalid value for 'max_tokens': must be at least 1. See also max_completion_tokens.",
    "max_tokens must be less than max_completion_tokens",
]


@pytest.mark.parametrize("wire", [CHAT, COMPLETIONS, HF], ids=lambda w: w.api)
@pytest.mark.parametrize("text", MENTIONS)
def test_a_text_that_mentions_both_names_changes_nothing(server: ByteServer, wire: Wire, text: str) -> None:
    server.script(refused(text), accepted(wire))
    model = wire.model(server)
    with pytest.raises(RequestRefused):
        reply(model)
    assert reply(model).text == "Hi."
    limit = "max_new_tokens" if wire is HF else "max_tokens"
    assert [limit in body for body in sent(server, wire)] == [True, True]


@pytest.mark.parametrize("wire", [COMPLETIONS, HF], ids=lambda w: w.api)
def test_a_protocol_without_the_other_name_keeps_its_own(server: ByteServer, wire: Wire) -> None:
    server.script(refused(UNSUPPORTED, param="max_tokens", code="unsupported_parameter"), accepted(wire))
    model = wire.model(server)
    with pytest.raises(RequestRefused):
        reply(model)
    reply(model)
    assert all("max_completion_tokens" not in body for body in sent(server, wire))


def test_a_change_that_the_server_does_not_accept_either_is_forgotten(server: ByteServer) -> None:
    server.script(refused(UNSUPPORTED), refused("max_completion_tokens is not supported"), accepted(CHAT))
    model = CHAT.model(server)
    with pytest.raises(RequestRefused):
        reply(model)
    reply(model)
    assert "max_tokens" in server.requests[-1]


def test_a_message_that_the_server_quotes_changes_nothing(server: ByteServer) -> None:
    def picky(text: str) -> bytes:
        return refused(f"I do not like: {text}")

    server.script(picky(UNSUPPORTED), picky(UNSUPPORTED), accepted(CHAT))
    model = CHAT.model(server)
    with pytest.raises(RequestRefused):
        reply(model, UNSUPPORTED)
    reply(model)
    assert "max_tokens" in server.requests[-1]


#: Parameter, error.
DROPPED: list[tuple[str, bytes]] = [
    ("temperature", refused("Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) value is supported.", param="temperature", code="unsupported_value")),
    ("temperature", refused("litellm.UnsupportedParamsError: gpt-5 models (including gpt-5-codex) don't support temperature=0.5. Only temperature=1 is supported.")),
    ("temperature", refused("`temperature` is deprecated for this model.")),
    ("top_p", refused("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")),
    ("seed", refused("litellm.UnsupportedParamsError: anthropic does not support parameters: ['seed'], for model=claude.", 500)),
    ("seed", refused("litellm.UnsupportedParamsError: bedrock does not support parameters: {'seed': 7}, for model=x.")),
    ("seed", refused("Unrecognized request argument supplied: seed")),
    ("seed", refused("Unknown parameter: 'seed'.", param="seed", code="unknown_parameter")),
    ("seed", refused("property 'seed' is unsupported")),
    ("seed", refused("json: unknown field \"seed\"")),
    ("seed", refused("unknown field `seed`, expected one of `model`, `messages`")),
    ("seed", refused("Extra inputs are not permitted, field: 'seed', value: 7")),
    ("seed", response(json.dumps({"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": 7}]}), status="422 Error")),
    ("seed", response(json.dumps({"object": "error", "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}, "type": "invalid_request_error"}), status="422 Error")),
    ("seed", response(json.dumps([{"error": {"code": 400, "message": "Invalid JSON payload received. Unknown name \"seed\": Cannot find field.", "status": "INVALID_ARGUMENT"}}]), status="400 Error")),
    ("seed", refused("got an unexpected keyword argument 'seed'")),
]  # fmt: skip


@pytest.mark.parametrize("wire", [CHAT, COMPLETIONS, HF], ids=lambda w: w.api)
@pytest.mark.parametrize(("name", "answer"), DROPPED)
def test_a_parameter_that_is_not_supported_is_dropped(
    server: ByteServer, caplog: pytest.LogCaptureFixture, wire: Wire, name: str, answer: bytes
) -> None:
    server.script(answer, accepted(wire))
    model = wire.model(server, **SAMPLING)
    assert [reply(model).text for _ in range(2)] == ["Hi.", "Hi."]
    names = set(SAMPLING)
    assert [names - set(body) for body in sent(server, wire)] == [set(), {name}, {name}]
    assert len([m for m in caplog.messages if f"parameter {name}" in m]) == 1


STOP = [
    refused("Unsupported parameter: 'stop' is not supported with this model.", param="stop", code="unsupported_parameter"),
    response(json.dumps({"code": "Client specified an invalid argument", "error": "Argument not supported on this model: stop"}), status="400 Error"),
    refused("Model grok-4 does not support parameter stop."),
    refused("mistral does not support parameters: {'stop': ['</a>', '</b>']}, for model=codestral-latest."),
    refused("The following `model_kwargs` are not used by the model: ['stop']"),
]  # fmt: skip


@pytest.mark.parametrize("wire", [COMPLETIONS, HF], ids=lambda w: w.api)
@pytest.mark.parametrize("answer", STOP)
def test_a_reply_ends_at_the_stop_sequence_also_where_the_server_does_not_know_it(
    server: ByteServer, wire: Wire, answer: bytes
) -> None:
    server.script(answer, response(json.dumps(wire.whole("Hi.\nHuman: and I am you"))))
    assert reply(wire.model(server)).text == "Hi."
    assert ["stop" in body for body in sent(server, wire)] == [True, False]


def test_several_parameters_are_given_up_one_after_the_other(server: ByteServer) -> None:
    server.script(
        refused(UNSUPPORTED),
        refused("Unsupported value: 'temperature' does not support 0.5 with this model."),
        refused("Unsupported parameter: 'top_p' is not supported with this model."),
        refused("Unsupported value: 'stream' does not support true with this model.", param="stream", code="unsupported_value"),
        accepted(CHAT),
    )  # fmt: skip
    assert reply(CHAT.model(server, **SAMPLING)).text == "Hi."
    assert set(server.requests[-1]) == {"model", "messages", "max_completion_tokens", "seed"}


NO_SYSTEM = [
    refused("System role not supported"),
    refused("System role not supported System role not supported", type="BadRequestError", code=400),
    refused("Conversation roles must alternate user/assistant/user/assistant/..."),
    refused("Only user and assistant roles are supported!"),
    refused("Unsupported value: 'messages[0].role' does not support 'system' with this model.", param="messages[0].role", code="unsupported_value"),
    refused("Developer instruction is not enabled for models/gemma-3-27b-it"),
    refused("invalid params, chat content has invalid message role: system (2013)"),
    refused("Jinja Exception: System role not supported", 500, type="server_error", code=500),
    refused("This model does not support system messages"),
    response(json.dumps({"object": "error", "message": "System role not supported", "type": "BadRequestError", "param": None, "code": 400}), status="400 Error"),
    response(json.dumps({"error": "Template error: syntax error: Conversation roles must alternate user/assistant/user/assistant/... (in <string>:1)", "error_type": "template_error"}), status="422 Error"),
    response(json.dumps({"detail": "System messages are not allowed"}), status="400 Error"),
    response(json.dumps({"errors": [{"loc": ["body", "messages", 0, "role"], "msg": "Input should be 'user' or 'assistant'", "type": "literal_error"}]}), status="422 Error"),
    response(json.dumps([{"error": {"code": 400, "message": "Developer instruction is not enabled for models/gemma", "status": "INVALID_ARGUMENT"}}]), status="400 Error"),
]  # fmt: skip


@pytest.mark.parametrize("answer", NO_SYSTEM)
def test_instructions_go_before_the_first_message_where_the_role_system_is_unknown(
    server: ByteServer, caplog: pytest.LogCaptureFixture, answer: bytes
) -> None:
    server.script(answer, accepted(CHAT))
    model = CHAT.model(server, system_prompt="Be kind.")
    assert [reply(model).text for _ in range(2)] == ["Hi.", "Hi."]
    instructed = [{"role": "user", "content": "Be kind.\n\nhello"}]
    with_role = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hello"}]
    assert [body["messages"] for body in server.requests] == [with_role, instructed, instructed]
    assert len([m for m in caplog.messages if "the role system" in m]) == 1


def test_without_instructions_the_refusal_is_passed_on(server: ByteServer) -> None:
    server.script(NO_SYSTEM[0], accepted(CHAT))
    with pytest.raises(ModelError):
        reply(CHAT.model(server))
    assert len(server.requests) == 1


def test_many_calls_at_once_learn_one_thing_once(server: ByteServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    server.script(decide=lambda body: NO_SYSTEM[0] if body["messages"][0]["role"] == "system" else accepted(CHAT))
    model = CHAT.model(server, system_prompt="Be kind.")
    with ThreadPoolExecutor(8) as pool:
        assert {r.text for r in pool.map(lambda _: reply(model), range(8))} == {"Hi."}
    assert len([m for m in caplog.messages if "the role system" in m]) == 1


OF_VALUES = [
    ("top_p", refused("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")),
    ("temperature", refused("Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is supported.", code="unsupported_value")),
    ("temperature", refused("litellm.UnsupportedParamsError: gpt-5 models don't support temperature=0.2. Only temperature=1 is supported.")),
]  # fmt: skip


@pytest.mark.parametrize("wire", [CHAT, COMPLETIONS, HF], ids=lambda w: w.api)
@pytest.mark.parametrize(("name", "answer"), OF_VALUES)
def test_a_value_of_one_request_that_is_refused_changes_no_other_request(
    server: ByteServer, wire: Wire, name: str, answer: bytes
) -> None:
    def ask(**options: Any) -> None:
        call = Call(30)
        call.options = options
        assert "".join(p.text for p in model.generate([PromptMessage("user", "hello")], call)) == "Hi."

    server.script(answer, accepted(wire))
    model = wire.model(server, in_loop=False)
    ask(temperature=0.2, top_p=0.9)
    ask(temperature=0.4)
    ask(top_p=0.5)
    both = {"temperature", "top_p"}
    assert [both & set(body) for body in sent(server, wire)] == [both, both - {name}, {"temperature"}, {"top_p"}]
    # A parameter that the server does not know at all is not sent again.
    server.script(refused(f"Unknown parameter: '{name}'."), accepted(wire))
    ask(**{name: 0.5})
    ask(**{name: 0.5})
    assert [name in body for body in sent(server, wire)] == [True, False, False]
