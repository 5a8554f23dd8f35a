"""A reply in progress: what has come of it, and what of that was reported to Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from chatbot.protocol import frames
from chatbot.protocol.compact_json import to_json
from chatbot.protocol.openai.calls import decode_calls, encode_calls, ended_calls, in_sequence
from chatbot.sessions.leases import RENEW, Assignment, Progress
from chatbot.worker.models.answers.usage import Usage
from chatbot.worker.models.call import Call
from chatbot.worker.models.continuation import CannotContinue

#: Characters of reasoning that are published and stored, and what follows them when there was more.
MAX_REASONING_LENGTH = 50_000
REASONING_CUT = "\n\n[The rest is left out.]"
#: Stands between the published reasoning of an attempt that did not end and that of the next one.
THINKS_AGAIN = "\n\n[The reply was interrupted. The model thinks again.]\n\n"


class _Growing:
    """A text that grows, and how much of it was reported, in code points and in bytes of UTF-8."""

    def __init__(self, text: str = "") -> None:
        """`text` was reported before."""
        self.text = text
        self.reported, self.reported_bytes = len(text), len(text.encode())

    def take(self) -> tuple[str, int, int]:
        """The text that was not reported, with its offset in code points and in bytes; it counts as reported."""
        offset, byte_offset, text = self.reported, self.reported_bytes, self.text
        if len(text) == offset:
            return "", offset, byte_offset
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

    def __init__(
        self, assignment: Assignment, call: Call, lock: threading.Lock, enqueue: Callable[[Stream], None]
    ) -> None:
        """`enqueue` is called when there is more to report. `lock` guards what of the texts was reported."""
        self.assignment = assignment
        self.call = call
        #: How the client gets what is generated, see web/openai/service.py; '' when it waits for the whole reply.
        self.streamed = str((assignment.options or {}).get("stream", ""))
        self._text = _Growing(assignment.partial)
        self._reasoning = _Growing(assignment.reasoning if self.streamed else "")
        self._calls = _Growing(assignment.calls if self.streamed else "")
        self._carried_calls = decode_calls(self._calls.text)
        self._carried_reasoning = len(self._reasoning.text)
        #: Characters of the text that an earlier attempt generated.
        self.carried = len(assignment.partial)
        #: Tokens that were generated, those of earlier attempts included.
        self.generated = assignment.generated
        #: Tokens of the prompt, estimated.
        self.prompt_tokens = 0
        self.usage: Usage | None = None
        #: What the server reported of this attempt alone.
        self.server_usage: Usage | None = None
        #: Seconds until this attempt's first text.
        self.first_after: float | None = None
        #: Seconds that this attempt took.
        self.took = 0.0
        # The function calls of a reply that is not streamed.
        self._whole_calls: Sequence[Mapping[str, Any]] = ()
        #: Set once another worker holds the lease, or the session has ended.
        self.lost = False
        #: Set once the model call has ended: nothing more is added.
        self.ended = False
        #: Whether something was added in the present step of the model loop, in whose thread this is used.
        self.added = False
        self._lock = lock
        self._to_report = enqueue
        # Below, guarded by `lock`, and so is what was reported of the texts.
        self.last_report = time.monotonic()
        self.last_answer = self.last_renewal = self.last_report
        self.queued = False
        #: Whether a report of it is under way.
        self.in_report = False
        self._deltas: _Frames | None = None
        self._thoughts: _Frames | None = None
        self._call_frames: _Frames | None = None

    @property
    def text(self) -> str:
        return self._text.text

    @property
    def reasoning(self) -> str:
        return self._reasoning.text

    @property
    def call_text(self) -> str:
        """The function calls of a streamed reply, see protocol/openai/calls.py."""
        return self._calls.text

    def calls(self, finish_reason: str) -> Sequence[Mapping[str, Any]]:
        """The function calls of the reply that ended for this reason."""
        return ended_calls(self.call_text, whole=finish_reason == "stop") if self.streamed else self._whole_calls

    @property
    def begun(self) -> bool:
        """Whether this attempt has added text, reasoning or calls."""
        carried = self._carried_reasoning, self.carried
        return (len(self.reasoning), len(self.text)) != carried or self.call_text != self.assignment.calls

    @property
    def in_order(self) -> bool:
        """Whether numbered events are sent: what was sent stays, and reasoning, text and calls follow each other."""
        return self.streamed == "events"

    @property
    def reported(self) -> bool:
        """Whether something was reported. The caller holds the lock."""
        return bool(self._text.reported or self._reasoning.reported or self._calls.reported)

    def add(self, text: str, reasoning: str = "") -> None:
        """Appends text and reasoning, to be reported. Too much reasoning is cut, and says so."""
        if self.in_order:
            reasoning = "" if self.text or self.call_text else reasoning
            text = "" if self.call_text else text
        if reasoning and 0 < len(self._reasoning.text) == self._carried_reasoning:
            reasoning = THINKS_AGAIN + reasoning
        room = MAX_REASONING_LENGTH - len(self._reasoning.text)
        if len(reasoning) > room:
            reasoning = f"{reasoning[:room]}{REASONING_CUT}" if room >= 0 else ""
        if text or reasoning:
            self._text.text += text
            self._reasoning.text += reasoning
            self._to_report(self)

    def add_calls(self, calls: Sequence[Mapping[str, Any]], *, last: bool) -> None:
        """Reports the calls so far, all of them with `last`. Raises `CannotContinue` for others than were published."""
        if not self.streamed:
            self._whole_calls = calls
            return
        published = self._calls.text
        if not last:
            calls = in_sequence(calls, published)
        text = encode_calls(map(self._with_carried_id, range(len(calls)), calls))
        if not text.startswith(published) and (last or not published.startswith(text)):
            raise CannotContinue("the model calls another function, or with other arguments")
        if len(text) > len(published):
            self._calls.text = text
            self._to_report(self)

    def _with_carried_id(self, index: int, call: Mapping[str, Any]) -> Mapping[str, Any]:
        carried = self._carried_calls[index : index + 1]
        same = carried and carried[0]["name"] == call["name"]
        return {**call, "call_id": carried[0]["call_id"]} if same else call

    def retract(self) -> None:
        """Turns all text so far into reasoning: the reply's text begins anew, at offset 0."""
        with self._lock:
            thought, self._text, self.carried = self._text.text, _Growing(), 0
        self.add("", thought)

    def begin_again(self) -> None:
        """Drops the text of an earlier attempt: the next text replaces it."""
        with self._lock:
            self._text, self.carried, self.generated = _Growing(), 0, 0

    def report(self) -> Progress:
        """What is new since the last report. The caller holds the lock."""
        self.last_report = time.monotonic()
        renew = self.renewal_due(self.last_report)
        if renew:
            self.last_renewal = self.last_report
        text, offset, byte_offset = self._text.take()
        thought, thought_offset, thought_byte_offset = self._reasoning.take()
        called, calls_offset, calls_byte_offset = self._calls.take()
        delta = reasoning = calls = None
        if text:
            self._deltas = self._deltas or _Frames(frames.delta, self.assignment)
            delta = self._deltas.encode(offset, text)
        if thought:
            self._thoughts = self._thoughts or _Frames(frames.reasoning, self.assignment)
            reasoning = self._thoughts.encode(thought_offset, thought)
        if called:
            self._call_frames = self._call_frames or _Frames(frames.calls, self.assignment)
            calls = self._call_frames.encode(calls_offset, called)
        return Progress(
            self.assignment,
            text=text,
            offset=byte_offset,
            frame=delta,
            reasoning=thought,
            reasoning_offset=thought_byte_offset,
            reasoning_frame=reasoning,
            renew=renew,
            generated=self.generated,
            calls=called,
            calls_offset=calls_byte_offset,
            calls_frame=calls,
        )

    def renewal_due(self, now: float) -> bool:
        """Whether the lease is to be renewed with the next report."""
        return now - self.last_renewal >= RENEW / 1000

    def last_delta(self) -> dict[str, Any] | None:
        """The text that was not reported before the stream was closed, as a `delta` frame.

        Of a streamed reply there is none: the reasoning before that text may not be reported either, and followers read
        both from the complete reply.
        """
        if self.streamed:
            return None
        text, offset, _ = self._text.take()
        work = self.assignment
        return frames.delta(work.reply_id, work.reply_to, offset, text, work.regeneration) if text else None

    def start_over(self) -> None:
        """Makes the next report hold all text. The caller holds the lock."""
        for growing in (self._text, self._reasoning, self._calls):
            growing.reported = growing.reported_bytes = 0
        # Redis may have been restored without the last renewal as well.
        self.last_renewal = 0.0
