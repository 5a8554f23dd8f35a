"""Tells a model's thinking from its reply where a server sends both as text: `<think>…</think>` at the beginning."""

from __future__ import annotations

#: How thinking begins and ends; special tokens of models, as servers without a reasoning parser send them.
_TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|channel|>analysis<|message|>", "<|start|>assistant<|channel|>final<|message|>"),
)


class Thinking:
    """Splits streamed text. Tags may be split over chunks; thinking that does not end is all thinking."""

    def __init__(self) -> None:
        self._held = ""
        #: The tag that ends the thinking; None before the first text and after the thinking.
        self._end: str | None = None
        #: Whether the reply has begun: a tag in it is text.
        self._replying = False

    def feed(self, chunk: str) -> tuple[str, str]:
        """The text and the thinking in `chunk` and in what was held back."""
        if self._replying or not (chunk or self._held):
            return chunk, ""
        text, self._held = self._held + chunk, ""
        if self._end is None:
            start = text.lstrip()
            for begin, end in _TAGS:
                if start.startswith(begin):
                    self._end = end
                    text = start.removeprefix(begin)
                    break
            else:
                if any(begin.startswith(start) for begin, _ in _TAGS):
                    self._held = text
                    return "", ""
                self._replying = True
                return text, ""
        thought, tag, reply = text.partition(self._end)
        if tag:
            self._replying = True
            return reply, thought
        keep = next((n for n in range(len(self._end) - 1, 0, -1) if text.endswith(self._end[:n])), 0)
        self._held = text[len(text) - keep :]
        return "", text[: len(text) - keep]

    def end(self) -> tuple[str, str]:
        """What was held back, once no more chunks come."""
        held, self._held = self._held, ""
        return ("", held) if self._end is not None and not self._replying else (held, "")
