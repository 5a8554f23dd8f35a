"""The channels of OpenAI's Harmony format, as servers without its parser send them.

Source: "OpenAI Harmony Response Format". A message is `<|start|>ROLE<|channel|>NAME<|message|>TEXT<|end|>`; the reply
is in the channel `final`, and what the model thinks and calls in others.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(r"<\|(start|channel|constrain|message|end|return|call)\|>")
#: The end of a text that may be the beginning of a token.
_PARTIAL = re.compile(r"<(\|[a-z]{0,9}\|?)?\Z")
_FIRST = ("<|channel|>", "<|start|>")


def in_channels(start: str, *, so_far: bool = False) -> bool:
    """Whether a text that begins with `start` is in channels; `so_far`: whether it may be."""
    return any(token.startswith(start) for token in _FIRST) if so_far else start.startswith(_FIRST)


class Channels:
    """Divides streamed text in channels into the reply and the thinking."""

    def __init__(self) -> None:
        self._held = ""
        #: The head of a message, as far as it has arrived; None within a text.
        self._head: str | None = None
        #: Whether that head names a channel.
        self._named = False
        self._final = True

    def feed(self, chunk: str) -> tuple[str, str]:
        """The parts of the reply and of the thinking in `chunk` and what was held back."""
        text = self._held + chunk
        partial = _PARTIAL.search(text)
        self._held = partial[0] if partial else ""
        return self._divided(text.removesuffix(self._held))

    def end(self) -> tuple[str, str]:
        """What was held back, once no more chunks come."""
        held, self._held = self._held, ""
        return self._divided(held)

    def _divided(self, text: str) -> tuple[str, str]:
        shown = thought = ""
        # Texts and the names of the tokens between them, in turn.
        for number, part in enumerate(_TOKEN.split(text)):
            if number % 2:
                self._enter(part)
            elif self._head is not None:
                self._head += part
            elif self._final:
                shown += part
            else:
                thought += part
        return shown, thought

    def _enter(self, name: str) -> None:
        """Notes what stands behind the token of this name."""
        if name == "message":
            self._final = not self._named or str(self._head).lstrip().startswith("final")
            self._head, self._named = None, False
        elif name in ("start", "channel"):
            self._head, self._named = "", name == "channel"
        elif name != "constrain":
            # What follows without a head is the reply.
            self._head, self._final = None, True
