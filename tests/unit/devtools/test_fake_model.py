"""The fake model server follows the protocols of real ones, and the client of their makers understands it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from huggingface_hub import InferenceClient, errors

from devtools.fake_model import ModelServer
from devtools.fake_model.orders import Order, last_human
from tests.unit.devtools.asker import Asker, events, prompt

STOP = "\nHuman:"


def test_a_reply_names_what_was_asked_last(any_protocol: Asker) -> None:
    assert any_protocol.reply("how are you?") == "You said: how are you? ."


def test_a_streamed_reply_is_the_whole_reply_in_tokens(any_protocol: Asker) -> None:
    chunks = any_protocol.chunks("how are you?")
    assert [chunk for chunk in chunks if chunk] == ["You", " said:", " how", " are", " you?", " ."]


def test_other_scripts_and_emoji_come_back_unchanged(any_protocol: Asker) -> None:
    assert any_protocol.reply("Ça va 👩‍🚀?") == "You said: Ça va 👩‍🚀? ."
    assert "".join(any_protocol.chunks("Ça va 👩‍🚀?")) == "You said: Ça va 👩‍🚀? ."


def test_a_reply_is_filled_up_to_the_ordered_number_of_tokens(any_protocol: Asker) -> None:
    any_protocol.server.control(tokens=7)
    assert any_protocol.reply("hi") == "You said: hi . w1 w2 w3"
    assert len(any_protocol.reply("!tokens=40 hi").split()) == 40
    assert any_protocol.reply("one two three four five") == "You said: one two three four five ."
    assert [record.tokens for record in any_protocol.server.requests()] == [7, 40, 8]


def test_a_stream_can_be_held_and_goes_on_when_the_hold_is_lifted(any_protocol: Asker) -> None:
    server = any_protocol.server
    server.control(hold=2)
    lines = (line for line in any_protocol.post("how are you?", stream=True).iter_lines() if b"you?" in line)
    assert server.wait_until(lambda records: records[-1].tokens == 2)[-1].outcome is None
    server.control(hold=4)
    assert server.wait_until(lambda records: records[-1].tokens == 4)[-1].outcome is None
    server.control(hold=None)
    assert next(lines)
    assert server.wait_until(lambda records: records[-1].outcome == "done")[-1].tokens == 6


def test_a_reply_can_be_dictated_and_comes_in_tokens_of_four_characters(any_protocol: Asker) -> None:
    assert any_protocol.reply("!say=Hello \\nworld  !") == "Hello \nworld  !"
    assert [chunk for chunk in any_protocol.chunks("!say=Hello world") if chunk] == ["Hell", "o wo", "rld"]


@pytest.mark.parametrize(
    ("text", "human"),
    [
        ("Human: one\nBot: two\nHuman: three\nBot:", "three"),
        ("Human: one Bot: two Human: three Bot:", "three"),
        ("Human: one\ntwo: Human: three\nBot:", "one\ntwo: Human: three"),
        ("Human: what is a Bot: word?\nBot:", "what is a Bot: word?"),
        ("Once upon a time", "Once upon a time"),
        ("Human: unanswered\nHuman: three\nBot: ", "three"),
    ],
)
def test_the_last_human_text_is_found_in_a_prompt(text: str, human: str) -> None:
    assert last_human(text) == human


def test_several_orders_can_stand_before_the_text() -> None:
    order = Order.parse("!fault=loading*2 !tokens=9 !first=5 !say=!tokens=1 ")
    assert (order.fault, order.fault_count, order.say) == ("loading", 2, "!tokens=1 ")
    assert order.numbers == {"tokens": 9, "first": 5}
    assert Order.parse("!tokens=many").reply(0) == ["You", " said:", " !tokens=many", " ."]


def test_generate_answers_a_bare_object_and_the_root_a_list(http: requests.Session, server: ModelServer) -> None:
    body = {"inputs": prompt("hi"), "parameters": {"return_full_text": False}}
    assert http.post(server.url + "/generate", json=body).json() == {"generated_text": "You said: hi ."}
    assert http.post(server.url + "/", json=body).json() == [{"generated_text": "You said: hi ."}]
    hosted = http.post(server.url + "/models/EleutherAI/gpt-j-6B", json=body)
    assert hosted.json() == [{"generated_text": "You said: hi ."}]


def test_the_root_repeats_the_prompt_by_default(http: requests.Session, server: ModelServer) -> None:
    body: dict[str, Any] = {"inputs": prompt("hi")}
    assert http.post(server.url, json=body).json()[0]["generated_text"] == prompt("hi") + "You said: hi ."
    assert http.post(server.url + "/generate", json=body).json()["generated_text"] == "You said: hi ."
    body["parameters"] = {"return_full_text": True}
    sent = events(http.post(server.url + "/generate_stream", json=body, stream=True))
    assert sent[-1]["generated_text"] == prompt("hi") + "You said: hi ."


def test_a_stream_ends_with_the_text_and_the_reason_only_if_asked(tgi: Asker) -> None:
    *first, last = events(tgi.post("hi", stream=True))
    assert [event["index"] for event in [*first, last]] == [1, 2, 3, 4, 5]
    assert all(event["generated_text"] is None for event in first)
    assert set(first[0]["token"]) == {"id", "text", "logprob", "special"}
    assert (last["generated_text"], last["details"]) == ("You said: hi .", None)
    assert last["token"]["special"], "the end of the text is a token too, and its text is not part of the reply"
    last = events(tgi.post("hi", stream=True, details=True))[-1]
    assert last["details"]["finish_reason"] == "eos_token"


def test_a_limit_ends_the_reply_with_its_last_token(tgi: Asker) -> None:
    *_, last = events(tgi.post("hi", stream=True, details=True, max_new_tokens=2))
    assert (last["token"]["text"], last["generated_text"]) == (" said:", "You said:")
    assert last["details"]["finish_reason"] == "length"
    assert len(tgi.reply("!tokens=200").split()) == 100, "the default limit"


def test_a_stop_text_stays_in_the_reply(tgi: Asker) -> None:
    *_, last = events(tgi.post("!say=Hello\\nHuman: more", stream=True, details=True, stop=[STOP]))
    assert (last["generated_text"], last["details"]["finish_reason"]) == ("Hello\nHuman:", "stop_sequence")


def test_a_stop_text_that_ends_within_a_token_is_not_seen(tgi: Asker) -> None:
    assert tgi.reply("!say=Hi!\\nHuman: more", stop=[STOP]) == "Hi!\nHuman: more"


@pytest.mark.parametrize(
    "parameters",
    [
        {"stop": ["a", "b", "c", "d", "e"]},
        {"stop": "a"},
        {"max_new_tokens": 0},
        {"temperature": 0},
        {"top_p": 1.0},
        {"top_k": "many"},
    ],
)
def test_parameters_that_the_real_server_refuses_are_refused(tgi: Asker, parameters: dict[str, Any]) -> None:
    answer = tgi.post("hi", **parameters)
    assert (answer.status_code, answer.json()["error_type"]) == (422, "validation")
    assert [record.outcome for record in tgi.server.requests()] == ["refused"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"{", 400),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"inputs": ""}', 422),
        (b'{"inputs": "half: \\ud83d"}', 400),
    ],
)
def test_an_invalid_body_is_refused(tgi: Asker, data: bytes, status: int) -> None:
    assert tgi.http.post(tgi.server.url, data=data).status_code == status
    assert [record.outcome for record in tgi.server.requests()] == ["refused"]


@pytest.fixture
def hub(server: ModelServer) -> Any:
    return InferenceClient(model=server.url, token="hf_test", timeout=10)


@pytest.mark.parametrize("full", [True, False])
def test_the_hub_client_understands_a_whole_reply(hub: Any, full: bool) -> None:
    expected = (prompt("hi") if full else "") + "You said: hi ."
    assert hub.text_generation(prompt("hi"), return_full_text=full) == expected


def test_the_hub_client_understands_a_whole_reply_with_details(hub: Any) -> None:
    output = hub.text_generation(prompt("hi"), details=True, return_full_text=False, max_new_tokens=3)
    assert (output.generated_text, output.details.finish_reason) == ("You said: hi", "length")
    assert [(token.text, token.special) for token in output.details.tokens][-1] == (" hi", False)
    assert output.details.generated_tokens == 3


def test_the_hub_client_understands_a_stream_with_details(hub: Any) -> None:
    *first, last = hub.text_generation(prompt("hi"), stream=True, details=True, return_full_text=False)
    assert "".join(event.token.text for event in first) == "You said: hi ."
    assert (last.token.special, last.generated_text) == (True, "You said: hi .")
    assert (last.details.finish_reason, last.details.generated_tokens) == ("eos_token", 5)


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        ("ValidationError", {"stop": list("abcde")}),
        ("GenerationError", {"prompt": prompt("!fault=failed_dependency")}),
        ("IncompleteGenerationError", {"prompt": prompt("!fault=server_error")}),
        ("HfHubHTTPError", {"prompt": prompt("!fault=loading")}),
        ("HfHubHTTPError", {"prompt": prompt("!fault=unauthorized_plain")}),
    ],
)
def test_the_hub_client_names_the_failures(hub: Any, error: str, asked: dict[str, Any]) -> None:
    with pytest.raises(getattr(errors, error)):
        hub.text_generation(**{"prompt": prompt("hi")} | asked)


def test_the_hub_client_names_a_failure_within_a_stream(hub: Any) -> None:
    stream = hub.text_generation(prompt("!fault=error_in_stream"), stream=True)
    assert [next(stream) for _ in range(3)] == ["You", " said:", " !fault=error_in_stream"]
    with pytest.raises(errors.GenerationError):
        next(stream)


def test_the_hub_client_understands_a_chat(hub: Any) -> None:
    messages = [{"role": "user", "content": "hi"}]
    assert hub.chat_completion(messages).choices[0].message.content == "You said: hi ."
    chunks = list(hub.chat_completion(messages, stream=True))
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == "You said: hi ."
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_stream_ends_with_the_word_done(openai: Asker) -> None:
    lines = [line for line in openai.post("hi", stream=True).iter_lines() if line]
    assert lines[-1] == b"data: [DONE]"
    *first, last = [json.loads(line.removeprefix(b"data: "))["choices"][0] for line in lines[:-1]]
    assert all(choice["finish_reason"] is None for choice in first)
    assert last["finish_reason"] == "stop"


def test_a_limit_is_named_as_the_reason(openai: Asker) -> None:
    assert openai.chunks("hi", max_tokens=2)[-1] == " said:"
    assert openai.post("hi", max_tokens=2).json()["choices"][0]["finish_reason"] == "length"
    assert events(openai.post("hi", stream=True, max_tokens=2))[-1]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("stop", [STOP, [STOP], ["\nUser:", STOP]])
def test_a_stop_text_is_trimmed_though_it_spans_tokens(openai: Asker, stop: str | list[str]) -> None:
    text = "!say=Hi\\nHumans.\\nHuman: more"
    assert openai.reply(text, stop=stop) == "Hi\nHumans."
    chunks = openai.chunks(text, stop=stop)
    assert "".join(chunks) == "Hi\nHumans."
    assert len(chunks) > 2


def test_the_beginning_of_a_stop_text_is_sent_at_the_end(openai: Asker) -> None:
    assert "".join(openai.chunks("!say=Hi\\nHum", stop=STOP)) == "Hi\nHum"


def test_a_lax_server_omits_done_and_the_finish_reason(openai: Asker) -> None:
    text = openai.post("!fault=lax !say=Hi\\nHuman: more", stream=True, stop=STOP).text
    assert "[DONE]" not in text
    assert "man:" in text
    assert text.count("finish_reason") == 1


def test_a_strict_server_refuses_an_unknown_field(openai: Asker) -> None:
    assert openai.reply("!fault=strict", temperature=0.5, stop=STOP) == "You said: !fault=strict ."
    assert openai.post("!fault=strict", repetition_penalty=1.1).status_code == 422
