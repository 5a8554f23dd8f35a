"""The last human message of a prompt, the orders in it, and the words of the reply."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

ORDER = re.compile(r"!(?:fault=(\w+)(?:\*(\d+))?|(tokens|first|interval)=(\d+))(?:\s+|$)")
PIECE = re.compile(r".{1,4}", re.DOTALL)
WORD = re.compile(r"\s*\S+")


@dataclass
class Order:
    """The orders in a human message."""

    text: str
    fault: str | None = None
    fault_count: int | None = None
    say: str | None = None
    numbers: dict[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Order:
        order, rest = cls(text), text
        while rest.startswith("!") and (match := ORDER.match(rest)):
            fault, count, name, number = match.groups()
            if fault:
                order.fault, order.fault_count = fault, int(count) if count else None
            else:
                order.numbers[name] = int(number)
            rest = rest[match.end() :]
        if rest.startswith("!say="):
            order.say = rest.removeprefix("!say=").replace("\\n", "\n")
        return order

    def reply(self, at_least: int) -> list[str]:
        """The tokens: words with the space before them, as tokenizers split them."""
        if self.say is not None:
            return PIECE.findall(self.say)
        words = WORD.findall(f"You said: {self.text} .")
        wanted = self.numbers.get("tokens", max(at_least, len(words)))
        return [*words[:wanted], *itertools.islice(fillers(), max(0, wanted - len(words)))]


def fillers() -> Iterator[str]:
    return (f" w{number}" for number in itertools.count(1))


def continued(tokens: Iterable[str], partial: str) -> Iterator[str]:
    """The tokens of a reply behind its beginning `partial`; all of them where that is not its beginning."""
    for token in tokens:
        if partial.startswith(token):
            partial = partial[len(token) :]
        else:
            yield token[len(partial) :] if token.startswith(partial) else token
            partial = ""


def last_bot(prompt: str) -> str:
    """What the prompt has of the reply: the text behind the final ``Bot:``."""
    return prompt.rpartition("Bot:")[2].lstrip(" ") if "Bot:" in prompt else ""


def last_human(prompt: str) -> str:
    """The text between the last ``Human:`` and the final ``Bot:``; if ``Bot:`` begins a line, ``Human:`` must too."""
    head, bot, _ = prompt.rpartition("Bot:")
    if bot and head.endswith("\n"):
        return re.split(r"^Human:", head, flags=re.MULTILINE)[-1].strip()
    return (head if bot else prompt).rpartition("Human:")[2].strip()
