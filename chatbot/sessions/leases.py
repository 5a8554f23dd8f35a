"""The worker's side of a session: one owner at a time, told by a lease with a fence; and the sweep of the ledger.

Whoever claims a session gets a fence number, higher than all before it. Every later step names it and is refused
once somebody else has claimed, so a worker that was frozen and wakes up late can do no harm.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from chatbot.errors import ChatbotError, StoreUnavailable
from chatbot.protocol import frames
from chatbot.protocol.documents import bot_message
from chatbot.protocol.events import events_channel, to_json
from chatbot.sessions.ids import reply_id
from chatbot.store.keys import LEDGER, WAITING, session_keys
from chatbot.store.scripts import Scripts

#: ms a lease lives unless renewed. A frozen or unreachable worker's session is picked up this long after its last
#: renewal, a killed one's at the next sweep; a worker that is starved for this long loses its reply to another.
LEASE = 5000
#: ms between two renewals: two may fail before the lease is lost.
RENEW = 1500
#: ms after a lease's end before the sweep looks: clocks do not matter, Redis' own is used everywhere.
GRACE = 250
#: ms between two looks at a session that waits in vain: at first, doubling up to at most.
FIRST_WAIT = 2000
LONGEST_WAIT = 60_000
#: Sessions that one sweep looks at; more wait for the next, a second later.
SWEEP_SIZE = 1000


class LeaseLost(ChatbotError):
    """Another worker speaks for this session now: nothing that this one still has to say counts."""


@dataclass(frozen=True)
class Assignment:
    """One message to be answered, under a lease."""

    session: str
    fence: str
    message_id: str
    #: Failed attempts so far, not counting answers that the model was being loaded.
    attempts: int
    #: Seconds since the model first answered that it was being loaded; 0 when it did not.
    loading_for: float
    #: The person has asked to stop before anything was generated.
    stopped: bool
    #: Stored messages, the last of which is the one to answer, in the order of the conversation.
    messages: tuple[dict[str, Any], ...]

    @property
    def reply_id(self) -> str:
        return reply_id(self.session, self.message_id)


@dataclass(frozen=True)
class Progress:
    """What one round trip reports about a reply that is being generated: new text, and how it is published.

    `offset` is where the text belongs, in bytes of UTF-8; 0 replaces what there was.
    """

    assignment: Assignment
    text: str = ""
    offset: int = 0
    frame: dict[str, Any] | None = None


class Leases:
    """Every method raises `StoreUnavailable` when Redis does not do its part."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        ttl: int,
        history_messages: int,
        max_history: int = 0,
        channel: Callable[[], str] = str,
    ) -> None:
        """`ttl` in seconds; a prompt holds at most `history_messages` messages, the one to answer included.

        A history keeps its `max_history` newest messages, 0 for all.

        `channel` names one that this process listens to, or '' while it listens to none: when nobody listens to it
        any more the process is dead, and its leases need not be waited for.
        """
        self._channel = channel
        self.client = client
        self._scripts = Scripts(client)
        self._ttl_ms = ttl * 1000
        self._history = history_messages
        self._max_history = max_history

    def claim(self, session: str) -> Assignment | None:
        """The session's next unanswered message; None when there is none, or somebody else is at it."""
        answer = self._scripts.run(
            "claim", session_keys(session), session, LEASE, GRACE, self._history, self._channel()
        )
        return self._assignment(session, answer)

    def progress(self, reports: Sequence[Progress]) -> list[str]:
        """Sends all reports in one round trip.

        Answers for each: `on`; `stop` when the person asked for the end; `lost` when somebody else speaks for the
        session; `behind` when the text before `offset` is not there, so that the whole text must be sent.
        """
        script = self._scripts.script("progress")
        try:
            answers = self._progress(script.sha, reports)
            if any(isinstance(answer, redis.exceptions.NoScriptError) for answer in answers):
                # Redis was restarted: none of the reports whose answer this is were carried out.
                self.client.script_load(script.script)
                missed = [i for i, a in enumerate(answers) if isinstance(a, redis.exceptions.NoScriptError)]
                again = self._progress(script.sha, [reports[i] for i in missed])
                for i, answer in zip(missed, again, strict=True):
                    answers[i] = answer
        except redis.RedisError as error:
            raise StoreUnavailable(f"progress: {type(error).__name__}: {error}") from error
        for answer in answers:
            if isinstance(answer, Exception):
                raise StoreUnavailable(f"progress: {type(answer).__name__}: {answer}")
        return answers

    def commit(
        self,
        work: Assignment,
        text: str,
        finish_reason: str,
        *,
        go_on: bool,
        last_delta: dict[str, Any] | None = None,
    ) -> Assignment | None:
        """Keeps the reply and tells of it; the next message when there is one and `go_on`, else lets go.

        `last_delta` holds what of the text was not reported yet, so that the deltas make the whole.
        Raises `LeaseLost`: then nothing was kept.
        """
        reply = bot_message(work.reply_id, text, work.message_id, finish_reason)
        return self._settle(
            "commit",
            work,
            go_on,
            work.reply_id,
            to_json(reply),
            events_channel(work.session),
            to_json(frames.message(reply)),
            after=(to_json(last_delta) if last_delta else "", self._max_history),
        )

    def fail(self, work: Assignment, told: str, *, go_on: bool) -> Assignment | None:
        """Records the failure with the sentence that the person is told. Otherwise like `commit`."""
        frame = frames.failure(work.message_id, told)
        return self._settle("fail", work, go_on, told, events_channel(work.session), to_json(frame))

    def postpone(self, work: Assignment, delay: float, *, loading: bool) -> None:
        """Lets go, to be tried again `delay` seconds from now, and tells the person so.

        Raises `LeaseLost`.
        """
        frame = frames.status(work.message_id, "loading" if loading else "retrying", delay)
        self._postpone(work, max(int(delay * 1000), 1), loading, to_json(frame))

    def hand_back(self, work: Assignment) -> None:
        """Lets go at once: another worker is to answer. Raises `LeaseLost`."""
        self._postpone(work, 0, False, "")

    def sweep(self) -> list[str]:
        """The sessions that are overdue: they are to be enqueued again."""
        answer: list[str] = self._scripts.run(
            "sweep", (LEDGER, WAITING), SWEEP_SIZE, LEASE, GRACE, FIRST_WAIT, LONGEST_WAIT
        )
        return answer

    def _progress(self, sha: str, reports: Sequence[Progress]) -> list[Any]:
        channel = self._channel()
        with self.client.pipeline(transaction=False) as pipeline:
            for report in reports:
                work = report.assignment
                keys = session_keys(work.session)
                pipeline.evalsha(
                    sha,
                    len(keys),
                    *keys,
                    work.session,
                    work.fence,
                    LEASE,
                    GRACE,
                    work.message_id,
                    report.text,
                    report.offset,
                    events_channel(work.session),
                    to_json(report.frame) if report.frame else "",
                    channel,
                )
            return pipeline.execute(raise_on_error=False)

    def _settle(
        self, script: str, work: Assignment, go_on: bool, *args: str, after: tuple[str | int, ...] = ()
    ) -> Assignment | None:
        answer = self._scripts.run(
            script,
            session_keys(work.session),
            work.session,
            work.fence,
            LEASE,
            GRACE,
            self._history,
            int(go_on),
            work.message_id,
            *args,
            self._ttl_ms,
            self._channel(),
            *after,
        )
        if answer[0] == "lost":
            raise LeaseLost(work.session)
        return self._assignment(work.session, answer)

    def _postpone(self, work: Assignment, delay_ms: int, loading: bool, frame: str) -> None:
        answer = self._scripts.run(
            "postpone",
            session_keys(work.session),
            work.session,
            work.fence,
            delay_ms,
            int(loading),
            events_channel(work.session),
            frame,
        )
        if answer == "lost":
            raise LeaseLost(work.session)

    @staticmethod
    def _assignment(session: str, answer: list[Any]) -> Assignment | None:
        if answer[0] != "message":
            return None
        _, fence, message_id, attempts, loading, stopped, now, *messages = answer
        return Assignment(
            session=session,
            fence=fence,
            message_id=message_id,
            attempts=attempts,
            loading_for=(now - loading) / 1000 if loading else 0.0,
            stopped=bool(stopped),
            messages=tuple(json.loads(message) for message in messages),
        )
