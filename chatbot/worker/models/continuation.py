"""Going on with a reply of which an earlier attempt generated a part: how a server is asked, and where the parts meet.

The text that the server is asked to continue ends where a token surely ends, which may be a word before the end of what
users see. What it generates first must then be that word again, which is dropped; other text is an answer of its own.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from typing import Literal

from chatbot.errors import ChatbotError
from chatbot.worker.models.errors import ModelError, RequestRefused

logger = logging.getLogger(__name__)

#: How a server is asked to continue the last message. vLLM and SGLang: two parameters. Mistral and DeepSeek: a field of
#: the message. llama.cpp and Ollama: the last message is the assistant's. Base models: the prompt ends in it.
Way = Literal["continue_final_message", "prefix", "prefill", "prompt"]

#: A word boundary with nothing but a word, or the beginning of one, behind it: tokenizers end a token before the space.
_LAST_WORD = re.compile(r"(?<=[^\W_]) (?=[^\W_]\S*\Z)")
#: Characters of a last word; a longer one is a text without spaces.
_LONGEST_WORD = 40
#: Of a text without spaces the last characters serve as its last word, if it has more than a few.
_LAST_CHARACTERS, _FEW = 2, 8
#: Characters of a last word that another reply hardly begins with; without its space a shorter one shows nothing.
_TELLING = 4
#: Characters at its beginning by which a reply is known that begins again.
_BEGINNING = 24
#: How servers refuse a last message of the assistant's under another status than that of a refused request.
_REFUSALS = ("prefill", "continue_final_message", "add_generation_prompt")


class CannotContinue(RequestRefused):
    """The server does not continue this reply: it must be generated from the beginning."""

    def __init__(self, why: str) -> None:
        super().__init__("refused", why)


class Diverged(ChatbotError):
    """The server generated another text than the one that is shown."""

    def __init__(self, seen: str, beginning: str) -> None:
        """`beginning` is that of the reply."""
        super().__init__("the continuation differs from the text that is shown")
        #: Whether it is the same reply from its beginning.
        self.again = bool(beginning) and seen.startswith(beginning)
        #: Whether it began as a continuation does, with white space, and not as an answer does.
        self.goes_on = seen[:1].isspace() and not (beginning and beginning.startswith(seen.lstrip()[: len(beginning)]))


class Continuation:
    """What is known of one server. Thread-safe."""

    def __init__(self, server: str, ways: tuple[Way, ...], *, proven: bool) -> None:
        """`ways` are tried in this order. `proven`: the first is known to work."""
        self._server = server
        self._lock = threading.Lock()
        self._ways = ways
        self.proven = proven

    @property
    def ways(self) -> tuple[Way, ...]:
        """The ways that the server has not refused."""
        return self._ways

    def works(self) -> None:
        """The server has continued a reply."""
        self.proven = True

    def refused(self, ways: set[Way]) -> None:
        """The server refuses these ways, and takes the same request without them."""
        with self._lock:
            left = tuple(way for way in self._ways if way not in ways)
            if left == self._ways:
                return
            self._ways = left
        if left:
            logger.info("%s refuses to continue a reply by %s", self._server, ", ".join(sorted(ways)))
        else:
            logger.warning("%s does not continue replies: those that were cut off begin again", self._server)


def refuses_to_continue(error: ModelError) -> bool:
    """Whether the error may be about the way in which the request asks to continue a reply."""
    return error.kind == "refused" or any(name in error.server_words.lower() for name in _REFUSALS)


def sure_end(text: str) -> int:
    """Where a token surely ends near the end of the text, and the rest is a word or the beginning of one.

    Without such a place, one shortly before the end; a short text has neither.
    """
    found = _LAST_WORD.search(text, max(len(text) - _LONGEST_WORD, 0))
    if found:
        return found.start()
    return len(text.rstrip()[:-_LAST_CHARACTERS].rstrip()) if len(text) > _FEW else len(text)


class Seam:
    """Drops the beginning of a continuation that repeats the end of the text so far.

    A server that does not continue may begin its reply again, which may begin like that end by chance.
    """

    def __init__(self, text: str, end: int, on_repeated: Callable[[], None]) -> None:
        """The server was given `text` up to `end`. Calls `on_repeated` when it has gone on from there."""
        self._shown = text[end:]
        #: How the reply begins, for one that begins again.
        self._beginning = text[:_BEGINNING] if end else ""
        self._on_repeated = on_repeated
        self._seen = ""
        self.passed = not self._shown

    def feed(self, text: str, *, last: bool = False) -> str:
        """The text behind the seam. Raises `Diverged` for other text than the end of the text so far."""
        if self.passed:
            return text
        seen = self._seen = self._seen + text
        shown, undecided = self._shown, False
        if seen and not seen[0].isspace():
            # Some servers drop the white space before their answer.
            shown = shown.lstrip()
            undecided = self._beginning.startswith(seen)
            if self._beginning and seen.startswith(self._beginning):
                raise Diverged(seen, self._beginning)
        if seen.startswith(shown) and (last or not undecided):
            if shown != self._shown and len(shown) < _TELLING:
                raise Diverged(seen, self._beginning)
            self.passed = True
            self._on_repeated()
            return seen[len(shown) :]
        if last or not (undecided or shown.startswith(seen)):
            raise Diverged(seen, self._beginning)
        return ""
