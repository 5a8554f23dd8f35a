"""Turns the chunks that a model streams into text to show."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Special tokens that end a reply, as servers that do not know a model's send them.
_ENDS = (
    *("<|return|>", "<|end|>", "<|im_end|>", "<|eot_id|>", "<|eot|>", "<|EOT|>", "<|endoftext|>", "<|end_of_text|>"),
    *(
        "<|eom_id|>",
        "<|end_of_turn|>",
        "<|END_OF_TURN_TOKEN|>",
        "<|end_of_solution|>",
        "<|END_RESPONSE|>",
        "<|eos|>",
        "<|endofturn|>",
    ),
    *("<end_of_turn>", "<turn|>", "<eos>", "</s>", "<｜end▁of▁sentence｜>"),  # the last is DeepSeek's
)
_LONGEST = max(map(len, _ENDS))
_ENDINGS = re.compile(rf"(?:(?:{'|'.join(map(re.escape, _ENDS))})\s*)*")
#: Distinguishes the end of struck-out text in HTML from a special token of Llama and Mistral.
_STRIKES = re.compile(r"<s(\s|>|\Z)")


class ReplyText:
    """Drops white space around the reply, special tokens at its end, and a stop sequence with all that follows.

    A stop sequence may be split over several chunks: text that could begin one is held back until the next chunk.
    """

    def __init__(self, stop: Sequence[str] = (), *, begun: bool = False) -> None:
        """`begun`: the white space at the beginning stands within the reply."""
        self._stop = tuple(stop)
        #: Beginnings of stop sequences.
        self._starts = tuple(text[:n] for text in self._stop for n in range(1, len(text)))
        self._held = ""
        self._begun = begun
        self._strikes = False
        self.stopped = False

    def feed(self, chunk: str) -> str:
        """The text to show once `chunk` has arrived; may be empty."""
        if self.stopped:
            return ""
        text = self._held + chunk
        cut = -1
        for stop in self._stop:
            at = text.find(stop)
            if at >= 0 and (cut < 0 or at < cut):
                cut = at
        if cut >= 0:
            self.stopped = True
            self._held = ""
            return self._out(text[:cut].rstrip())
        decided = len(text) - self._undecided(text)
        self._held = text[decided:]
        return self._out(text[:decided])

    @property
    def held(self) -> str:
        """The text held back."""
        return self._held

    def end(self) -> str:
        """The text still held back, once no more chunks come."""
        text, self._held = self._held.rstrip(), ""
        ending = self._ending(text)
        return self._out(text[:ending].rstrip() if _ENDINGS.fullmatch(text, ending) else text)

    def _out(self, text: str) -> str:
        if not self._begun:
            text = text.lstrip()
        self._begun = self._begun or bool(text)
        return whole_characters(text)

    def _undecided(self, text: str) -> int:
        """The number of characters to hold back: part of a stop sequence or of a character, with white space before."""
        half = 1 if text and "\ud800" <= text[-1] <= "\udbff" else 0
        if "<" in text:
            half = max(half, len(text) - self._ending(text))
        if not half and not text.endswith(self._starts):
            return len(text) - len(text.rstrip())
        for stop in self._stop:
            for n in range(min(len(stop) - 1, len(text)), half, -1):
                if text.endswith(stop[:n]):
                    half = n
                    break
        return len(text) - len(text[: len(text) - half].rstrip())

    def _ending(self, text: str) -> int:
        """Where the special tokens at the end of the text begin, the last of which may be incomplete."""
        if _STRIKES.search(text):
            self._strikes = True
        at = text.find("<")
        while at >= 0:
            tokens = _ENDINGS.match(text, at)
            ends = tokens.end() if tokens else at
            struck = self._strikes and text.startswith("</s>", at)
            if not struck and len(text) - ends < _LONGEST and any(end.startswith(text[ends:]) for end in _ENDS):
                return at
            at = text.find("<", max(ends, at + 1))
        return len(text)


def whole_characters(text: str, *, so_far: bool = False) -> str:
    """Joins surrogate pairs that JSON escaped separately; a lone surrogate, which UTF-8 cannot hold, becomes U+FFFD.

    Of a text `so_far` a first half at its end is left out.
    """
    if so_far and text and "\ud800" <= text[-1] <= "\udbff":
        text = text[:-1]
    if text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
