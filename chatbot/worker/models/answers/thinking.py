"""Separates thinking from the reply where a server sends both as text: `<think>…</think>` at the beginning."""

from __future__ import annotations

import re
from typing import NamedTuple

from chatbot.worker.models.answers.channels import Channels, in_channels

#: How thinking begins and ends, in lower case: special tokens of models, as servers without a reasoning parser send
#: them. Harmony's channels are divided in channels.py.
_TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<reasoning_scratchpad>", "</reasoning_scratchpad>"),
    ("<seed:think>", "</seed:think>"),
    ("[think]", "[/think]"),
    ("◁think▷", "◁/think▷"),
    # OpenThinker, and Gemma 4.
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel>thought", "<channel|>"),
    # Cohere, and Apertus.
    ("<|start_thinking|>", "<|end_thinking|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
)
#: What stands before a reply or its thinking where a server repeats the end of the prompt, or does not know the model.
_HEADS = (
    *("<|start_header_id|>assistant<|end_header_id|>", "<|im_start|>assistant", "<|begin_of_solution|>"),
    "<|start_response|>",
)


#: The end of thinking that began in the prompt, as some chat templates have it: the reply holds no opening tag.
_BARE_END = "</think>"
#: Such ends within text after which one more is text: models that repeat a tag do so for ever.
_MAX_TAGS = 20


class Split(NamedTuple):
    """A part of the text, divided."""

    text: str = ""
    thought: str = ""
    #: All text before this part was thinking, too.
    retracts: bool = False


class Thinking:
    """Splits streamed text. Tags may be split over chunks; thinking that does not end is all thinking."""

    def __init__(self, said: str = "") -> None:
        """`said` is the beginning of a reply that is continued."""
        self._held = ""
        #: Where the reply is in channels.
        self._channels: Channels | None = None
        #: The tag that ends the thinking; None before the first text and after the thinking.
        self._end: str | None = None
        #: Whether the thinking has ended.
        self._thought = False
        #: Whether the reply has begun: an opening tag in it is text.
        self._replying = bool(said)
        #: Ends of thinking in the reply that were none.
        self._tags = 0
        #: The reply so far, as long as it may turn out to be thinking; None once it cannot.
        self._said: list[str] | None = [said] if said else []

    def feed(self, chunk: str) -> Split:
        """What `chunk` and what was held back are."""
        if self._channels is not None:
            return Split(*self._channels.feed(chunk))
        text, self._held = self._held + chunk, ""
        if self._replying:
            return self._reply(text)
        if self._end is None:
            start = text.lstrip()
            lower = start.lower()
            while head := next((head for head in _HEADS if lower.startswith(head)), None):
                text = start = start[len(head) :].lstrip()
                lower = start.lower()
            tags = () if self._thought else _TAGS
            if in_channels(start):
                self._channels = Channels()
                return Split(*self._channels.feed(start))
            begins = (*_HEADS, *(begin for begin, _ in tags))
            if in_channels(start, so_far=True) or any(begin.startswith(lower) for begin in begins):
                self._held = text
                return Split()
            pair = next((pair for pair in tags if lower.startswith(pair[0])), None)
            if pair is None:
                self._replying = True
                return self._reply(text)
            self._end, self._said = pair[1], None
            text = start[len(pair[0]) :]
        # In lower case a text may be longer: İ becomes two characters.
        if tag := re.search(re.escape(self._end), text, re.IGNORECASE):
            self._end, self._thought = None, True
            # A head may follow.
            return self.feed(text[tag.end() :])._replace(thought=text[: tag.start()])
        self._held = _partial(text, self._end)
        return Split("", text.removesuffix(self._held))

    def end(self) -> Split:
        """What was held back is, once no more chunks come."""
        if self._channels is not None:
            return Split(*self._channels.end())
        held, self._held = self._held, ""
        if self._end is not None and not self._replying:
            return Split("", held)
        if held.strip() == _BARE_END and self._said and self._ends_thinking(""):
            return Split("", "", retracts=True)
        return Split(held)

    def _reply(self, text: str) -> Split:
        """A part of the reply. A bare end of thinking counts once, on a line of its own or before an empty one."""
        shown = ""
        while self._said is not None:
            before, tag, after = text.partition(_BARE_END)
            if not tag:
                self._held = _partial(text, _BARE_END)
                text = text.removesuffix(self._held)
                self._said.append(text)
                return Split(shown + text)
            if after in ("", "\n"):
                self._held = tag + after
                self._said.append(before)
                return Split(shown + before)
            self._said.append(before)
            if self._ends_thinking(after):
                self._said = None
                return Split(after, shown + before, retracts=True)
            self._said.append(tag)
            shown, text = shown + before + tag, after
            self._tags += 1
            if self._tags > _MAX_TAGS:
                self._said = None
        return Split(shown + text)

    def _ends_thinking(self, after: str) -> bool:
        said = "".join(self._said or ())
        alone = (not said or said.endswith("\n")) and after[:1] in ("", "\n")
        return (alone or after.startswith("\n\n")) and said.count("```") % 2 == 0


def _partial(text: str, tag: str) -> str:
    """The end of the text that may be the beginning of the tag."""
    lower = text[-len(tag) :].lower()
    if lower[-1:] not in tag:
        return ""
    return next((text[-n:] for n in range(len(tag) - 1, 0, -1) if lower.endswith(tag[:n])), "")
