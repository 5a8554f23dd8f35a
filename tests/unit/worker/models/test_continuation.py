"""A reply of which an earlier attempt generated a part goes on, on servers that can; others say so."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from chatbot.config import OPENAI_CHAT, OPENAI_COMPLETIONS, ModelAddress, ModelSettings, Settings
from chatbot.worker.model_check import check
from chatbot.worker.models.base import Model
from chatbot.worker.models.call import Call
from chatbot.worker.models.continuation import CannotContinue, Diverged, Seam, sure_end
from chatbot.worker.models.errors import RequestRefused
from chatbot.worker.models.http.endpoint import ModelEndpoint
from chatbot.worker.models.protocols.openai import OpenAIProtocol
from chatbot.worker.prompts import PromptMessage
from devtools.fake_model import ModelServer
from devtools.harness.ports import free_port
from tests.support.models import PATHS, ModelFactory, answer, answering, ask, at

REPLY = "You said: how are you today? ."


def rest(model: Model, partial: str, question: str = "how are you today?", call: Call | None = None) -> str:
    """What the model continues `partial` with."""
    conversation = [PromptMessage("user", question), PromptMessage("assistant", partial, begins=True)]
    pieces = list(model.generate(conversation, call or Call(30)))
    assert pieces[-1].finish_reason == "stop"
    return "".join(piece.text for piece in pieces)


def chat(url: str, continuing: str = "auto") -> OpenAIProtocol:
    """A chat model, whose calls run in the thread of the test."""
    settings = Settings(model=ModelSettings(servers=(ModelAddress(url, OPENAI_CHAT),), continuing=continuing))
    return OpenAIProtocol(ModelEndpoint(url, settings), OPENAI_CHAT, settings)


@pytest.mark.parametrize("partial", ["You said: how", "You said: how ar", "You said: how are you", REPLY])
def test_a_reply_goes_on_behind_what_is_shown(make: ModelFactory, partial: str) -> None:
    model = make()
    assert partial + rest(model, partial) == REPLY
    assert partial + rest(model, partial) == REPLY, "the way is known now"


def test_the_same_reply_again_serves_where_too_little_is_shown_to_continue(model: ModelServer) -> None:
    asked = chat(f"{model.url}/v1/chat/completions")
    assert "You" + rest(asked, "You") == REPLY
    assert model.requests()[-1].body["messages"][-1]["role"] == "user"
    assert not asked.continuation.proven


def test_a_conversation_that_a_client_ends_with_a_reply_is_answered_as_it_is(
    make: ModelFactory, model: ModelServer
) -> None:
    """Agents pass on what another one said last. The text here is too short for a reply that surely goes on."""
    model.control(continuing="ignored")
    conversation = [PromptMessage("user", "how are you today?"), PromptMessage("assistant", "Well")]
    text = "".join(piece.text for piece in make().generate(conversation, Call(30)))
    assert text.startswith("You said: how are you today?")
    body = model.requests()[-1].body
    if "messages" in body:
        assert body["messages"][-1] == {"role": "assistant", "content": "Well"}
        assert "continue_final_message" not in body


def test_the_server_is_asked_to_go_on_where_a_token_surely_ends(make: ModelFactory, model: ModelServer) -> None:
    rest(make(max_new_tokens=64), "You said: how ar", call=(call := Call(30)))
    body = model.requests()[-1].body
    if "messages" in body:
        assert body["messages"][-1] == {"role": "assistant", "content": "You said: how"}
        assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    else:
        assert (body.get("prompt") or body["inputs"]).endswith("\nBot: You said: how")
    assert call.refused == {}


def test_the_limit_of_tokens_counts_those_generated_before(make: ModelFactory, model: ModelServer) -> None:
    call = Call(30)
    call.generated = 60
    rest(make(max_new_tokens=100), "You said: how", call=call)
    body = model.requests()[-1].body
    assert body.get("max_tokens", body.get("parameters", {}).get("max_new_tokens")) == 40


def test_a_server_that_refuses_is_asked_in_another_way(model: ModelServer) -> None:
    asked = chat(f"{model.url}/v1/chat/completions")
    question = "!fault=strict how are you?"
    assert rest(asked, "You said: !fault=strict how", question) == " are you? ."
    bodies = [record.body for record in model.requests()]
    assert ["continue_final_message" in body for body in bodies[-2:]] == [True, False]
    assert bodies[-1]["messages"][-1]["prefix"] is True
    assert asked.continuation.ways == ("prefix",)


def test_a_server_that_takes_no_beginning_of_a_reply_is_not_asked_again(model: ModelServer) -> None:
    model.control(continuing="refused")
    asked, call = chat(f"{model.url}/v1/chat/completions"), Call(30)
    with pytest.raises(CannotContinue):
        rest(asked, "You said: how", call=call)
    assert asked.continuation.ways, "the request may have been refused for another reason"
    assert ask(asked, "how are you today?", call)[0] == REPLY
    assert asked.continuation.ways == ()
    count = len(model.requests())
    with pytest.raises(CannotContinue):
        rest(asked, "You said: how")
    assert len(model.requests()) == count


def test_a_refusal_that_another_request_gets_too_teaches_nothing() -> None:
    refusal = answer("400 Bad Request", '{"error": {"message": "model is in maintenance"}}')
    with answering(refusal, refusal, refusal) as url:
        asked, call = chat(url), Call(30)
        with pytest.raises(CannotContinue):
            rest(asked, "You said: how", call=call)
        with pytest.raises(RequestRefused):
            ask(asked, "how are you today?", call)
    assert asked.continuation.ways == ("continue_final_message", "prefix")


@pytest.mark.parametrize("partial", ["You said: how are", "Yes."])
def test_an_answer_that_begins_anew_is_not_taken_for_the_rest(model: ModelServer, partial: str) -> None:
    model.control(continuing="ignored")
    asked = chat(f"{model.url}/v1/chat/completions")
    with pytest.raises(CannotContinue):
        rest(asked, partial)
    assert not asked.continuation.proven


def test_off_continues_nothing(make: ModelFactory) -> None:
    with pytest.raises(CannotContinue):
        rest(make(continuing="off"), "You said: how")


def test_an_answer_that_is_not_streamed_may_repeat_the_beginning() -> None:
    whole = {"choices": [{"message": {"content": "The capital of France is Paris."}, "finish_reason": "stop"}]}
    with answering(answer("200 OK", json.dumps(whole))) as url:
        assert rest(chat(url), "The capital of Fran") == "ce is Paris."


def test_another_word_than_the_one_shown_is_asked_for_again_behind_it() -> None:
    """A model that samples may choose another word: the one that is shown stays."""
    other, behind = (
        {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]} for text in (" dogs.", " purr.")
    )
    with answering(answer("200 OK", json.dumps(other)), answer("200 OK", json.dumps(behind))) as url:
        asked = chat(url)
        assert rest(asked, "I like cats") == " purr."
        assert asked.continuation.proven


@pytest.mark.parametrize("path", [path for path, api in PATHS.items() if api != OPENAI_CHAT])
def test_a_stop_sequence_may_begin_where_the_reply_was_cut_off(path: str, model: ModelServer) -> None:
    asked = at(model.url + path, PATHS[path], max_new_tokens=500)
    question = "!say=I am the bot.\\nHuman: and I am you"
    for partial in ("I am the", "I am the bot."):
        assert partial + rest(asked, partial, question) == "I am the bot."


def test_a_reply_that_a_base_model_began_is_continued_as_it_is(model: ModelServer) -> None:
    asked = at(f"{model.url}/v1/completions", OPENAI_COMPLETIONS)
    rest(asked, "You said: how are you")
    assert model.requests()[-1].prompt == "Human: how are you today?\nBot: You said: how are"


def test_a_model_that_thinks_again_begins_again() -> None:
    thinks = {"choices": [{"message": {"content": "x", "reasoning": "Hm."}, "finish_reason": "stop"}]}
    with answering(answer("200 OK", json.dumps(thinks))) as url, pytest.raises(CannotContinue):
        rest(chat(url), "The capital of Fran")


@pytest.mark.parametrize(
    ("continuing", "line"),
    [
        ("yes", "continues: yes, a reply that was cut off goes on (by continue_final_message)"),
        ("refused", "continues: no, the server does not continue replies: a reply that was cut off begins again"),
        ("ignored", "continues: no, the server began another reply: a reply that was cut off begins again"),
    ],
)
def test_model_check_says_whether_a_server_continues_replies(model: ModelServer, continuing: str, line: str) -> None:
    model.control(continuing=continuing)
    address = ModelAddress(f"{model.url}/v1/chat/completions", OPENAI_CHAT)
    lines: list[str] = []
    assert check(Settings(model=ModelSettings(servers=(address,))), lines.append)
    assert line in lines


def test_model_check_says_when_the_local_model_is_not_running(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_there = (ModelAddress(f"http://127.0.0.1:{free_port()}/v1/chat/completions", OPENAI_CHAT),)
    monkeypatch.setattr(ModelSettings, "servers", nothing_there)
    lines: list[str] = []
    assert not check(Settings(model=ModelSettings(servers=nothing_there)), lines.append)
    assert "`make run` serves its model" in lines[-1]


@pytest.mark.parametrize(
    ("text", "sure"),
    [
        ("The capital of Fran", "The capital of"),
        ("The capital of France.", "The capital of"),
        ("It costs 3", "It costs"),
        ("Paris. The", "Paris. The"[:-2]),
        ("one\ntwo three\nfour", "one\ntwo three\nfo"),
        ("敏捷的棕色狐狸跳过了懒狗", "敏捷的棕色狐狸跳过了"),
        ("short", "short"),
        ("a " + "x" * 60, "a " + "x" * 58),
    ],
)
def test_where_a_token_surely_ends(text: str, sure: str) -> None:
    assert text[: sure_end(text)] == sure


def through(text: str, end: int, answer: Sequence[str]) -> str:
    """What a seam passes on of an answer to `text` up to `end`."""
    seam = Seam(text, end, lambda: None)
    return "".join(seam.feed(piece, last=n == len(answer) - 1) for n, piece in enumerate(answer))


def test_a_seam_drops_what_is_shown_already() -> None:
    repeated: list[bool] = []
    seam = Seam("I like cats", 6, lambda: repeated.append(True))
    assert [seam.feed(text) for text in (" c", "at", "s and", " dogs")] == ["", "", " and", " dogs"]
    assert repeated == [True]
    assert through("I like cats", 6, ["cats purr"]) == " purr", "a server may drop white space"
    with pytest.raises(Diverged) as diverged:
        through("I like cats", 6, [" dogs"])
    assert diverged.value.goes_on
    assert not diverged.value.again
    with pytest.raises(Diverged):
        through("I like cats", 6, [" ca"])


@pytest.mark.parametrize("space", ["", "\n\n"])
@pytest.mark.parametrize("word", ["T", "Th", "The", "The quick"])
@pytest.mark.parametrize("other", ["The quick brown fox jumps over it.", "This is another reply.", "Then it rests."])
def test_a_reply_that_begins_again_with_the_last_word_by_chance_is_not_taken_for_the_rest(
    space: str, word: str, other: str
) -> None:
    text = f"The quick brown fox jumps over the lazy dog. {word}"
    for words in ([space + other], list(space + other)):
        with pytest.raises(Diverged) as diverged:
            through(text, sure_end(text), words)
        assert not diverged.value.goes_on or other != "The quick brown fox jumps over it."


def test_a_server_that_repeats_the_beginning_is_not_believed_though_the_setting_says_that_it_continues() -> None:
    text = "The quick brown fox jumps over the lazy dog."
    chunks = [json.dumps({"choices": [{"index": 0, "delta": {"content": text[n : n + 4]}}]}) for n in range(0, 44, 4)]
    stream = "".join(f"data: {chunk}\n\n" for chunk in [*chunks, "[DONE]"])
    with (
        answering(answer("200 OK", stream, "text/event-stream")) as url,
        pytest.raises(CannotContinue, match="another reply"),
    ):
        rest(chat(url, continuing="prefill"), text[:40])
