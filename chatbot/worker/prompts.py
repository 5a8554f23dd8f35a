"""Builds prompts from stored messages."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

HUMAN = "Human:"
BOT = "Bot:"
#: Where a base model goes on to write the next message itself, its reply has ended.
STOP_SEQUENCES = (f"\n{HUMAN}", f"\n{BOT}")

_LABEL_TOKENS = 4
_LETTERS = (string.ascii_letters + " ").encode()
_LABEL = re.compile(r"\b(human|bot)(?=\s*:)", re.IGNORECASE)


@dataclass(frozen=True)
class PromptMessage:
    """One message of a conversation, as a model gets it."""

    role: Literal["user", "assistant", "system", "tool"]
    text: str
    #: Parts with images, as chat completions have them; the text is in them too.
    parts: tuple[Mapping[str, Any], ...] = ()
    #: Function calls of the assistant, as chat completions have them; and the call that a message of a tool answers.
    calls: tuple[Mapping[str, Any], ...] = ()
    call_id: str = ""
    #: Whether it is the beginning of the reply, which the model is to continue: the assistant's, and the last.
    begins: bool = False

    @cached_property
    def tokens(self) -> int:
        """Tokens of the message with its function calls, estimated."""
        return estimated_tokens(self.text) + sum(
            estimated_tokens(str(call["function"]["arguments"])) for call in self.calls
        )


def prompt_messages(messages: Sequence[Mapping[str, Any]], keep_reasoning: bool = False) -> list[PromptMessage]:
    """Stored messages as messages of a prompt: roles alternate, no text is empty, and the last is the one to answer.

    A turn without a reply, or whose reply has no text, is left out: strict servers refuse both. With `keep_reasoning`
    each reply begins with its reasoning, as `<think>…</think>`.
    """
    conversation: list[PromptMessage] = []
    question = ""
    for message in messages[:-1]:
        if message["source"] == "human":
            question = message["msg"]
        elif message["msg"].strip() and (question or not conversation):
            if question:
                conversation.append(PromptMessage("user", question))
            reasoning = message.get("reasoning", "") if keep_reasoning else ""
            thoughts = f"<think>\n{reasoning}\n</think>\n\n" if reasoning else ""
            conversation.append(PromptMessage("assistant", thoughts + message["msg"]))
            question = ""
    return [*conversation, PromptMessage("user", messages[-1]["msg"])]


def fit(conversation: Sequence[PromptMessage], max_tokens: int) -> Sequence[PromptMessage]:
    """The newest turns that are estimated to fit, always with the last message, which is never cut.

    The prompts of a conversation begin with the same turn until one does not fit. Then turns are left out at once, down
    to half of `max_tokens`, and the next prompts begin alike again. That follows from the conversation alone: each
    turn's prompt is cut in order. A turn with a message that is too long to fit alone is left out.
    """
    if sum(message.tokens for message in conversation) <= max_tokens:
        return conversation
    turns = [turn for turn in _turns(conversation[:-1]) if all(message.tokens <= max_tokens for message in turn)]
    sizes = [sum(message.tokens for message in turn) for turn in turns]
    questions = [turn[0].tokens for turn in turns] + [conversation[-1].tokens]
    begin, held = 0, 0
    for end, question in enumerate(questions):
        if held + question > max_tokens:
            while begin < end and (
                held + question > max_tokens or (begin < end - 1 and held + question > max_tokens // 2)
            ):
                held -= sizes[begin]
                begin += 1
        if end < len(turns):
            held += sizes[end]
    return [*(message for turn in turns[begin:] for message in turn), conversation[-1]]


def _turns(conversation: Sequence[PromptMessage]) -> Iterator[Sequence[PromptMessage]]:
    """Each turn as its human message, which the first turn may lack, and its reply."""
    begin = len(conversation) % 2
    if begin:
        yield conversation[:1]
    for at in range(begin, len(conversation), 2):
        yield conversation[at : at + 2]


def max_messages(max_tokens: int) -> int:
    """The most messages that can ever fit into `max_tokens`: no more need be read."""
    return max_tokens // _LABEL_TOKENS + 1


def estimated_tokens(text: str) -> int:
    """Tokens of a message: one for three ASCII letters or spaces, five for six other bytes, and a few for the label.

    A rule of thumb that errs on the high side for GPT-J.
    """
    encoded = text.encode("utf-8", "replace")
    others = len(encoded.translate(None, _LETTERS))
    return (len(encoded) - others) // 3 + others * 5 // 6 + _LABEL_TOKENS


def completion_prompt(conversation: Sequence[PromptMessage]) -> str:
    """`Human: …` and `Bot: …` lines for a base model, ending in `Bot:` or in the beginning of the
    reply, which the model continues.

    A text cannot forge a message: a label inside a text gets a space before its colon.
    """
    lines = [_line(message) for message in conversation]
    return "\n".join(lines if conversation[-1].begins else [*lines, BOT])


def _line(message: PromptMessage) -> str:
    """A line with its label; instructions, which no setting gives to base models, have none."""
    if message.role == "system":
        return _unlabelled(message.text)
    return f"{HUMAN if message.role == 'user' else BOT} {_unlabelled(message.text)}"


def _unlabelled(text: str) -> str:
    return _LABEL.sub(r"\1 ", text)


def chat_messages(conversation: Sequence[PromptMessage], system_prompt: str) -> list[dict[str, str]]:
    """Messages for a chat model. The first is the user's, as many chat templates demand.

    A reply whose question is outside of the window is left out.
    """
    begin = 1 if conversation[0].role == "assistant" else 0
    messages = [{"role": message.role, "content": message.text} for message in conversation[begin:]]
    if system_prompt:
        messages.insert(0, {"role": "system", "content": system_prompt})
    return messages
