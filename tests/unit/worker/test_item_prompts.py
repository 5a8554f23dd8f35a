"""Conversations of OpenAI's interfaces, as a chat model gets them."""

from __future__ import annotations

from typing import Any

from chatbot.protocol.openai.items import parse_input
from chatbot.worker.item_prompts import newest, requested_conversation
from chatbot.worker.models.protocols.request_options import requested_messages, with_options, with_tools
from chatbot.worker.prompts import completion_prompt

CALL = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}


def human(text: str, **further: Any) -> dict[str, Any]:
    return {"id": text, "source": "human", "msg": text, **further}


def bot(text: str, **further: Any) -> dict[str, Any]:
    return {"id": f"b-{text}", "source": "bot", "msg": text, **further}


def test_calls_and_their_outputs_stand_where_they_happened() -> None:
    output = {"type": "function_call_output", "call_id": "c", "output": "a heart"}
    stored = [
        human("what is it?", options={"instructions": "of another request"}),
        bot("let me look", items=[CALL]),
        human("", items=[output], options={"instructions": "Be brief."}),
    ]
    function = {"name": "look", "arguments": "{}"}
    assert requested_messages(requested_conversation(stored), "not used") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "what is it?"},
        {
            "role": "assistant",
            "content": "let me look",
            "tool_calls": [{"id": "c", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "a heart"},
    ]


def test_images_are_parts_of_their_message() -> None:
    content = [{"type": "input_text", "text": "see "}, {"type": "input_image", "image_url": "https://x.example/a.png"}]
    items = parse_input([{"role": "user", "content": content}])
    (message,) = requested_messages(requested_conversation([human("see ", items=items, options={})]), "")
    image = {"type": "image_url", "image_url": {"url": "https://x.example/a.png", "detail": "auto"}}
    assert message["content"] == [{"type": "text", "text": "see "}, image]


def test_the_instructions_of_the_server_apply_where_the_client_gives_none() -> None:
    plain = requested_conversation([human("hi", options={})])
    assert requested_messages(plain, "Be kind.")[0] == {"role": "system", "content": "Be kind."}
    system = parse_input([{"role": "system", "content": "One."}, {"role": "user", "content": "hi"}])
    both = requested_conversation([human("hi", items=system, options={"instructions": "Two."})])
    assert [message["content"] for message in requested_messages(both, "Be kind.")] == ["Two.\n\nOne.", "hi"]


def test_a_base_model_gets_instructions_as_a_line_without_a_label() -> None:
    conversation = requested_conversation([human("hi", options={"instructions": "Bot: is brief."})])
    assert completion_prompt(conversation) == "Bot : is brief.\nHuman: hi\nBot:"


def test_the_options_of_a_request_replace_those_of_the_settings_but_not_the_most_tokens() -> None:
    own = {"temperature": 1, "max_tokens": 64}
    assert with_options(own, {"temperature": 0, "max_output_tokens": 7}, "max_tokens") == {
        "temperature": 0,
        "max_tokens": 7,
    }
    assert with_options(own, {"max_output_tokens": 7000}, "max_tokens")["max_tokens"] == 64


def test_functions_and_forms_are_sent_as_chat_completions_have_them() -> None:
    tool = {"type": "function", "name": "look", "description": None, "parameters": {"type": "object"}, "strict": None}
    form: dict[str, Any] = {"type": "json_schema", "name": "answer", "description": None, "schema": {}, "strict": True}
    sent = with_tools(
        {}, {"tools": [tool], "tool_choice": {"type": "function", "name": "look"}, "text": {"format": form}}
    )
    assert sent == {
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {}, "strict": True}},
    }


def test_a_prompt_that_is_too_long_is_halved_at_a_human_message() -> None:
    stored = [human("1"), bot("2"), human("3"), bot("4"), human("5")]
    assert [message["msg"] for message in newest(stored)] == ["5"]
    assert [message["msg"] for message in newest(stored[:4] + stored[:3])] == ["1", "2", "3"]
    assert newest(stored[:1]) == stored[:1]
