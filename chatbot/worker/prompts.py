"""From stored messages to what a model is asked, and from what it answers to what is said."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

HUMAN = "Human:"
BOT = "Bot:"
#: A base model goes on to play both parts: whatever comes from here on is not its reply.
STOP_SEQUENCES = (f"\n{HUMAN}", f"\n{BOT}")

_LABEL_TOKENS = 4
_LETTERS = (string.ascii_letters + " ").encode()
_LABEL = re.compile(r"\b(human|bot)(?=\s*:)", re.IGNORECASE)


@dataclass(frozen=True)
class PromptMessage:
    """One side's part in a conversation."""

    role: Literal["user", "assistant"]
    text: str


def prompt_messages(messages: Iterable[Mapping[str, Any]]) -> list[PromptMessage]:
    """Stored messages as turns."""
    return [PromptMessage("user" if m["source"] == "human" else "assistant", m["msg"]) for m in messages]


def fit(conversation: Sequence[PromptMessage], max_tokens: int) -> Sequence[PromptMessage]:
    """The newest turns that are estimated to fit, and the last one in any case: it is never cut silently.

    A turn that would not even fit alone is left out, and cuts nothing off.
    """
    *earlier, last = conversation
    kept = [last]
    room = max_tokens - estimated_tokens(last.text)
    for turn in reversed(earlier):
        tokens = estimated_tokens(turn.text)
        if tokens > max_tokens:
            continue
        room -= tokens
        if room < 0:
            break
        kept.append(turn)
    return kept[::-1]


def max_messages(max_tokens: int) -> int:
    """More turns than this fit in no case: so many are worth reading."""
    return max_tokens // _LABEL_TOKENS + 1


def estimated_tokens(text: str) -> int:
    """Tokens of a turn, by rule of thumb and rather too many for GPT-J: one for three ASCII letters or spaces, five
    for six other bytes, and a few for its label."""
    encoded = text.encode("utf-8", "replace")
    others = len(encoded.translate(None, _LETTERS))
    return (len(encoded) - others) // 3 + others * 5 // 6 + _LABEL_TOKENS


def completion_prompt(conversation: Sequence[PromptMessage]) -> str:
    """`Human: …` and `Bot: …` lines for a base model, ending in `Bot:` for it to go on from.

    What a person wrote cannot pass for a turn: a label inside a text loses its colon's place.
    """
    lines = [f"{HUMAN if turn.role == 'user' else BOT} {_unlabelled(turn.text)}" for turn in conversation]
    return "\n".join([*lines, BOT])


def _unlabelled(text: str) -> str:
    return _LABEL.sub(r"\1 ", text)


def chat_messages(conversation: Sequence[PromptMessage], system_prompt: str) -> list[dict[str, str]]:
    """Messages for a chat model, roles in strict turns, as many chat templates demand.

    Messages of the same side in a row become one; a reply whose question the window cut off is left out.
    """
    messages: list[dict[str, str]] = []
    for turn in conversation:
        if not messages and turn.role == "assistant":
            continue
        if messages and messages[-1]["role"] == turn.role:
            messages[-1]["content"] += "\n\n" + turn.text
        else:
            messages.append({"role": turn.role, "content": turn.text})
    if system_prompt:
        messages.insert(0, {"role": "system", "content": system_prompt})
    return messages


class ReplyText:
    """Turns the pieces that a model streams into text that may be shown.

    White space around the reply is dropped. A stop sequence and all behind it never shows, though it come in
    pieces: what could be the beginning of one is held back until it is known.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self._begun = False
        self.stopped = False

    def feed(self, piece: str) -> str:
        """The text that `piece` lets out, perhaps none."""
        if self.stopped:
            return ""
        text = self._held + piece
        cut = min((i for i in (text.find(s) for s in self._stop) if i >= 0), default=-1)
        if cut >= 0:
            self.stopped = True
            self._held = ""
            return self._out(text[:cut].rstrip())
        known = len(text) - self._undecided(text)
        self._held = text[known:]
        return self._out(text[:known])

    def end(self) -> str:
        """The text still held back, once no more pieces come."""
        text, self._held = self._held.rstrip(), ""
        return self._out(text)

    def _out(self, text: str) -> str:
        if not self._begun:
            text = text.lstrip()
        self._begun = self._begun or bool(text)
        return _whole_characters(text)

    def _undecided(self, text: str) -> int:
        """Characters at the end that are not known to be said: half a stop sequence or half a character, and the
        white space before them."""
        half = 1 if text and "\ud800" <= text[-1] <= "\udbff" else 0
        for stop in self._stop:
            for n in range(min(len(stop) - 1, len(text)), half, -1):
                if text.endswith(stop[:n]):
                    half = n
                    break
        return len(text) - len(text[: len(text) - half].rstrip())


def _whole_characters(text: str) -> str:
    """Joins surrogate pairs that JSON spelled apart; a lone half becomes U+FFFD, as UTF-8 cannot hold it."""
    if text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
