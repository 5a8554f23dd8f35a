"""Builds prompts from stored messages."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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

    role: Literal["user", "assistant"]
    text: str


def prompt_messages(messages: Iterable[Mapping[str, Any]]) -> list[PromptMessage]:
    """Stored messages as messages of a prompt.

    One without text, such as a reply that was stopped at once, is left out: strict servers refuse it.
    """
    return [
        PromptMessage("user" if m["source"] == "human" else "assistant", m["msg"]) for m in messages if m["msg"].strip()
    ]


def fit(conversation: Sequence[PromptMessage], max_tokens: int) -> Sequence[PromptMessage]:
    """The newest messages that are estimated to fit, always with the last one, which is never cut.

    A message too long to fit alone is left out; older ones may still be included.
    """
    *earlier, last = conversation
    kept = [last]
    room = max_tokens - estimated_tokens(last.text)
    for message in reversed(earlier):
        tokens = estimated_tokens(message.text)
        if tokens > max_tokens:
            continue
        room -= tokens
        if room < 0:
            break
        kept.append(message)
    return kept[::-1]


def max_messages(max_tokens: int) -> int:
    """The most messages that can ever fit into `max_tokens`: no more need be read."""
    return max_tokens // _LABEL_TOKENS + 1


def estimated_tokens(text: str) -> int:
    """Tokens of a message, a rule of thumb that errs on the high side for GPT-J: one for three ASCII letters or spaces,
    five for six other bytes, and a few for the label."""
    encoded = text.encode("utf-8", "replace")
    others = len(encoded.translate(None, _LETTERS))
    return (len(encoded) - others) // 3 + others * 5 // 6 + _LABEL_TOKENS


def completion_prompt(conversation: Sequence[PromptMessage]) -> str:
    """`Human: …` and `Bot: …` lines for a base model, ending in `Bot:`, which the model continues.

    A text cannot forge a message: a label inside a text gets a space before its colon.
    """
    lines = [f"{HUMAN if m.role == 'user' else BOT} {_unlabelled(m.text)}" for m in conversation]
    return "\n".join([*lines, BOT])


def _unlabelled(text: str) -> str:
    return _LABEL.sub(r"\1 ", text)


def chat_messages(conversation: Sequence[PromptMessage], system_prompt: str) -> list[dict[str, str]]:
    """Messages for a chat model, with strictly alternating roles, as many chat templates demand.

    Consecutive messages of one role become one. A reply whose question is outside of the window is left out.
    """
    messages: list[dict[str, str]] = []
    for message in conversation:
        if not messages and message.role == "assistant":
            continue
        if messages and messages[-1]["role"] == message.role:
            messages[-1]["content"] += "\n\n" + message.text
        else:
            messages.append({"role": message.role, "content": message.text})
    if system_prompt:
        messages.insert(0, {"role": "system", "content": system_prompt})
    return messages
