"""Turns the chunks that a model streams into text to show."""

from __future__ import annotations

from collections.abc import Sequence


class ReplyText:
    """Drops white space around the reply, and a stop sequence with all that follows.

    A stop sequence may be split over several chunks: text that could begin one is held back until the next chunk.
    """

    def __init__(self, stop: Sequence[str] = (), *, begun: bool = False) -> None:
        """`begun`: the white space at the beginning stands within the reply."""
        self._stop = tuple(stop)
        #: Beginnings of stop sequences.
        self._starts = tuple(text[:n] for text in self._stop for n in range(1, len(text)))
        self._held = ""
        self._begun = begun
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
        return self._out(text)

    def _out(self, text: str) -> str:
        if not self._begun:
            text = text.lstrip()
        self._begun = self._begun or bool(text)
        return whole_characters(text)

    def _undecided(self, text: str) -> int:
        """The number of characters to hold back: part of a stop sequence or of a character, with white space before."""
        half = 1 if text and "\ud800" <= text[-1] <= "\udbff" else 0
        if not half and not text.endswith(self._starts):
            return len(text) - len(text.rstrip())
        for stop in self._stop:
            for n in range(min(len(stop) - 1, len(text)), half, -1):
                if text.endswith(stop[:n]):
                    half = n
                    break
        return len(text) - len(text[: len(text) - half].rstrip())


def whole_characters(text: str, *, so_far: bool = False) -> str:
    """Joins surrogate pairs that JSON escaped separately; a lone surrogate, which UTF-8 cannot hold, becomes U+FFFD.

    Of a text `so_far` a first half at its end is left out.
    """
    if so_far and text and "\ud800" <= text[-1] <= "\udbff":
        text = text[:-1]
    if text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
