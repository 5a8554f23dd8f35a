"""A reply in progress: what has come of it, and what of that was reported to Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from chatbot.protocol import frames
from chatbot.protocol.events import to_json
from chatbot.sessions.leases import RENEW, Assignment, Progress
from chatbot.worker.models.answers.usage import Usage
from chatbot.worker.models.call import Call

if TYPE_CHECKING:
    from chatbot.worker.streams import Streams

#: Characters of reasoning that are published and stored, and what follows them when there was more.
MAX_REASONING_LENGTH = 50_000
REASONING_CUT = "\n\n[The rest is left out.]"


class _Growing:
    """A text that grows, and how much of it was reported, in code points and in bytes of UTF-8."""

    def __init__(self, text: str = "") -> None:
        """`text` was reported before."""
        self.text = text
        self.reported, self.reported_bytes = len(text), len(text.encode())

    def take(self) -> tuple[str, int, int]:
        """The text that was not reported, with its offset in code points and in bytes; it counts as reported."""
        offset, byte_offset, text = self.reported, self.reported_bytes, self.text
        self.reported = len(text)
        new = text[offset:]
        self.reported_bytes += len(new.encode())
        return new, offset, byte_offset


class _Frames:
    """Encodes the frames of one growing text: all but offset and text is encoded once."""

    def __init__(self, frame: Callable[..., dict[str, Any]], work: Assignment) -> None:
        empty = to_json(frame(work.reply_id, work.reply_to, 0, "", work.regeneration))
        self._head, _, self._tail = empty.partition('0,"msg":""')

    def encode(self, offset: int, text: str) -> str:
        return f'{self._head}{offset},"msg":{to_json(text)}{self._tail}'


class Stream:
    """A reply in progress. The thread that reads from the model calls `add`."""

    def __init__(self, streams: Streams, assignment: Assignment, call: Call) -> None:
        self.assignment = assignment
        self.call = call
        self._text, self._reasoning = _Growing(assignment.partial), _Growing()
        #: Characters of the text that an earlier attempt generated.
        self.carried = len(assignment.partial)
        #: Tokens that were generated, those of earlier attempts included.
        self.generated = assignment.generated
        #: Tokens of the prompt, estimated.
        self.prompt_tokens = 0
        self.usage: Usage | None = None
        #: Seconds until this attempt's first text.
        self.first_after: float | None = None
        #: The function calls of the reply.
        self.calls: tuple[Mapping[str, Any], ...] = ()
        #: Set once another worker holds the lease, or the session has ended.
        self.lost = False
        #: Set once the model call has ended: nothing more is added.
        self.ended = False
        # Whether text was added in the present step of the model loop, in whose thread this is used.
        self._added = False
        self._streams = streams
        # Below, guarded by the lock of `streams`, and so is what was reported of the texts.
        self.last_report = time.monotonic()
        self.last_answer = self.last_renewal = self.last_report
        self.queued = False
        #: Whether a report of it is under way.
        self.in_report = False
        self._deltas: _Frames | None = None
        self._thoughts: _Frames | None = None

    @property
    def text(self) -> str:
        return self._text.text

    @property
    def reasoning(self) -> str:
        return self._reasoning.text

    @property
    def begun(self) -> bool:
        """Whether this attempt has added text or reasoning."""
        return len(self._text.text) > self.carried or bool(self._reasoning.text)

    @property
    def reported(self) -> bool:
        """Whether something was reported. The caller holds the lock of `Streams`."""
        return bool(self._text.reported or self._reasoning.reported)

    def add(self, text: str, reasoning: str = "") -> None:
        """Appends text and reasoning, to be reported. Too much reasoning is cut, and says so."""
        room = MAX_REASONING_LENGTH - len(self._reasoning.text)
        if len(reasoning) > room:
            reasoning = f"{reasoning[:room]}{REASONING_CUT}" if room >= 0 else ""
        if text or reasoning:
            self._text.text += text
            self._reasoning.text += reasoning
            if self.call.loop is None:
                self._streams.enqueue(self)
            elif not self._added:
                # Once for all chunks that were read together. A short reply may end with them: then its commit alone
                # publishes it.
                self._added = True
                self.call.loop.after_step(self._enqueue_unless_ended)

    def _enqueue_unless_ended(self) -> None:
        self._added = False
        if not self.ended:
            self._streams.enqueue(self)

    def retract(self) -> None:
        """Turns all text so far into reasoning: the reply's text begins anew, at offset 0."""
        with self._streams.lock:
            thought, self._text, self.carried = self._text.text, _Growing(), 0
        self.add("", thought)

    def begin_again(self) -> None:
        """Drops the text of an earlier attempt: the next text replaces it."""
        with self._streams.lock:
            self._text, self.carried, self.generated = _Growing(), 0, 0

    def report(self) -> Progress:
        """What is new since the last report. The caller holds the lock of `Streams`."""
        self.last_report = time.monotonic()
        renew = self.renewal_due(self.last_report)
        if renew:
            self.last_renewal = self.last_report
        text, offset, byte_offset = self._text.take()
        thought, thought_offset, thought_byte_offset = self._reasoning.take()
        delta = reasoning = None
        if text:
            self._deltas = self._deltas or _Frames(frames.delta, self.assignment)
            delta = self._deltas.encode(offset, text)
        if thought:
            self._thoughts = self._thoughts or _Frames(frames.reasoning, self.assignment)
            reasoning = self._thoughts.encode(thought_offset, thought)
        return Progress(
            self.assignment,
            text,
            byte_offset,
            delta,
            thought,
            thought_byte_offset,
            reasoning,
            renew,
            self.generated,
        )

    def renewal_due(self, now: float) -> bool:
        """Whether the lease is to be renewed with the next report."""
        return now - self.last_renewal >= RENEW / 1000

    def last_delta(self) -> dict[str, Any] | None:
        """The text that was not reported before the stream was closed, as a `delta` frame."""
        text, offset, _ = self._text.take()
        work = self.assignment
        return frames.delta(work.reply_id, work.reply_to, offset, text, work.regeneration) if text else None

    def start_over(self) -> None:
        """Makes the next report hold all text. The caller holds the lock of `Streams`."""
        for growing in (self._text, self._reasoning):
            growing.reported = growing.reported_bytes = 0
        # Redis may have been restored without the last renewal as well.
        self.last_renewal = 0.0
