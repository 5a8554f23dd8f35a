"""The worker's side of a session: one worker at a time, by a lease with a fence number.

Each claim gets a fence number higher than all before it. Every later step names that number, and is rejected once
another worker has claimed the session. So a worker that was frozen does no harm when it resumes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from chatbot.errors import ChatbotError, DamagedSession, StoreUnavailable
from chatbot.protocol import frames
from chatbot.protocol.charges import charged
from chatbot.protocol.compact_json import to_json
from chatbot.protocol.documents import bot_message
from chatbot.sessions.assignments import Assignment, Progress, assignment_of
from chatbot.store.errors import store_errors
from chatbot.store.partitions import Partition, Store, partitions_of
from chatbot.store.scripts import Scripts, SendsScripts, Value
from chatbot.tracing import new_span_id, stored_context

__all__ = [
    "DAMAGED",
    "DAMAGED_ATTEMPTS",
    "GRACE",
    "LEASE",
    "RENEW",
    "Assignment",
    "LeaseLost",
    "Leases",
    "Progress",
    "SessionEnded",
]

#: Milliseconds that a lease lasts unless it is renewed. Another worker takes the session of a frozen or unreachable one
#: over this long after the last renewal, that of a killed one at the next sweep.
LEASE = 5000
#: Milliseconds between two renewals: two may fail before the lease expires.
RENEW = 1500
#: Milliseconds from a lease's expiry to the due time of its session. All times are by the clock of Redis.
GRACE = 250

#: Failed attempts at a damaged session after which it is given up.
DAMAGED_ATTEMPTS = 3
#: The text shown to the user.
DAMAGED = "This chat can no longer be read. Please start a new one."


#: Reports of one step: Redis does nothing else for about a millisecond.
_MOST_REPORTS = 100


class LeaseLost(ChatbotError):
    """Another worker holds the lease, or the session is gone; this worker's writes are rejected."""


class SessionEnded(LeaseLost):
    """The session has expired or was deleted; there is nothing left to write to."""


class Leases:
    """Every method raises `StoreUnavailable` when Redis fails."""

    def __init__(
        self,
        store: Store,
        *,
        ttl: int,
        history_messages: int,
        max_history: int = 0,
        max_history_bytes: int = 0,
        channel: Callable[[Partition], str] = lambda _: "",
        sender: SendsScripts | None = None,
    ) -> None:
        """`ttl` in seconds; a prompt holds the newest `history_messages` messages, and up to twice as many.

        A history keeps its `max_history` newest messages that take `max_history_bytes` of Redis' memory, 0 for all.

        `channel` returns a channel to which only this process subscribes, where the partition is, or '' while it does
        not. Once the channel has no subscriber the process is dead, and a sweep releases its leases without waiting for
        their expiry. `sender` sends the steps, unless the clients do.
        """
        self._channel = channel
        self._partitions = partitions_of(store)
        self._scripts = Scripts(sender=sender)
        self._ttl_ms = ttl * 1000
        self._prompt_size = history_messages
        self._history = {"max_history": max_history, "max_history_bytes": max_history_bytes}

    def claim(self, session: str) -> Assignment | None:
        """The session's next unanswered message; None when no message is left, or another worker holds the lease."""
        attempt, partition = new_span_id(), self._partitions.of(session)
        answer = self._run(
            "claim",
            session,
            session=session,
            prompt_size=self._prompt_size,
            attempt=attempt,
            **self._lease(partition),
        )
        return assignment_of(session, answer, attempt)

    def facts(self, session: str) -> tuple[str, str]:
        """The user's name and the start of the session; empty texts when it has ended."""
        partition = self._partitions.of(session)
        with store_errors("facts"):
            found = partition.client.json().get(partition.keys(session).document, "$.name", "$.session_start")
        if not isinstance(found, dict):
            return "", ""
        name, start = (next(iter(found.get(path) or [""])) for path in ("$.name", "$.session_start"))
        return str(name), str(start)

    def progress(self, reports: Sequence[Progress]) -> list[str]:
        """Stores and publishes the new text of several replies, and renews their leases: many in one step.

        Answers for each:

        - `on`: stored.
        - `stop`: stored, and the user has stopped the reply.
        - `lost`: another worker holds the lease.
        - `ended`: the session has ended.
        - `behind`: the text before `offset` is not stored; the whole text must be sent.
        - `unavailable`: the session's Redis failed, and others did not.
        """
        partitions = [self._partitions.of(report.assignment.session) for report in reports]
        answers = ["unavailable"] * len(reports)
        failures: list[StoreUnavailable] = []
        groups = self._partitions.by_client(partitions)
        for indexes in groups:
            try:
                for first in range(0, len(indexes), _MOST_REPORTS):
                    part = indexes[first : first + _MOST_REPORTS]
                    found = self._report([(partitions[index], reports[index]) for index in part])
                    for index, answer in zip(part, found, strict=True):
                        answers[index] = answer
            except StoreUnavailable as error:
                failures.append(error)
        if failures and len(failures) == len(groups):
            raise failures[0]
        return answers

    def _report(self, reports: Sequence[tuple[Partition, Progress]]) -> list[str]:
        """The answers to reports of one client, in one round trip."""
        indexes: dict[Partition, list[int]] = {}
        for index, (partition, _) in enumerate(reports):
            indexes.setdefault(partition, []).append(index)
        if len(indexes) == 1:
            at = reports[0][0]
            values = [value for _, report in reports for value in report.values()]
            return list(self._scripts.run("progress", at.fail_fast, at.shared, *values, **self._lease(at)))
        calls = []
        for partition, of_partition in indexes.items():
            values = [value for index in of_partition for value in reports[index][1].values()]
            calls.append((partition.shared, values, self._lease(partition)))
        found = self._scripts.run_many("progress", reports[0][0], calls)
        answers = ["unavailable"] * len(reports)
        for of_partition, answer in zip(indexes.values(), found, strict=True):
            if not isinstance(answer, StoreUnavailable):
                for index, each in zip(of_partition, answer, strict=True):
                    answers[index] = each
        return answers

    def give_up(self, session: str, damage: DamagedSession) -> bool:
        """Counts a failed attempt at a damaged session and releases its lease; the last one gives the session up.

        It needs no worker then. With a key of a wrong type it ends; else it stays as it is, and its next message is
        published as failed. Returns whether this was the last attempt.
        """
        partition = self._partitions.of(session)
        channel = partition.events(session)
        status, *rest = self._run(
            "give_up",
            session,
            session=session,
            attempts=DAMAGED_ATTEMPTS,
            wrong_type=int(damage.wrong_type),
            events=channel,
            ttl_ms=self._ttl_ms,
        )
        if status == "set_aside" and rest[0]:
            message, number = rest
            event = f"{number}:\n{to_json(frames.failure(message, DAMAGED))}"
            with store_errors("give_up"):
                partition.client.execute_command(partition.publish, channel, event)
        return bool(status != "again")

    def commit(
        self,
        work: Assignment,
        text: str,
        finish_reason: str,
        *,
        go_on: bool,
        last_delta: dict[str, Any] | None = None,
        reasoning: str = "",
        usage: Mapping[str, Any] | None = None,
        items: Sequence[Mapping[str, Any]] = (),
    ) -> Assignment | None:
        """Stores and publishes the reply. Returns the next message if there is one and `go_on`, or releases the lease.

        `last_delta` is the frame with the text that was not published yet, so that all deltas together are the reply;
        `items` are its function calls.
        `usage` is added to that of the API key, if the request has one.
        Raises `LeaseLost`: then nothing was stored.
        """
        reply = bot_message(
            work.reply_id, text, work.reply_to, finish_reason, work.regeneration, reasoning, usage, items
        )
        return self._settle(
            "commit",
            work,
            frames.message(reply),
            go_on,
            usage=charged("replied", usage),
            reply_id=work.reply_id,
            reply=to_json(reply),
            last_delta=to_json(last_delta) if last_delta else "",
            **self._history,
        )

    def fail(self, work: Assignment, failure: str, *, go_on: bool) -> Assignment | None:
        """Records and publishes the failure; `failure` is the text shown to the user. Otherwise like `commit`."""
        frame = frames.failure(work.message_id, failure, work.reply_to if work.regeneration else None)
        return self._settle("fail", work, frame, go_on, usage=charged("failed"), failure=failure)

    def postpone(self, work: Assignment, delay: float, *, loading: bool) -> None:
        """Releases the lease, schedules a retry in `delay` seconds, and publishes that. Raises `LeaseLost`."""
        frame = frames.status(work.message_id, "loading" if loading else "retrying", delay)
        self._release(work, max(int(delay * 1000), 1), frame, loading=loading)

    def hand_back(self, work: Assignment) -> None:
        """Releases the lease for another worker. Raises `LeaseLost`."""
        self._release(work, 0, None)

    def _run(self, script: str, session: str, /, **arguments: Value) -> Any:
        partition = self._partitions.of(session)
        return self._scripts.run(script, partition, partition.keys(session), **arguments)

    def _lease(self, partition: Partition) -> dict[str, Value]:
        return {"lease_ms": LEASE, "grace_ms": GRACE, "owner": self._channel(partition)}

    def _fenced(self, work: Assignment, frame: dict[str, Any] | None) -> dict[str, Value]:
        return {
            "session": work.session,
            "fence": work.fence,
            "events": self._partitions.of(work.session).events(work.session),
            "frame": to_json(frame) if frame else "",
        }

    def _settle(
        self, script: str, work: Assignment, frame: dict[str, Any], go_on: bool, **arguments: Value
    ) -> Assignment | None:
        attempt = new_span_id()
        answer = self._run(
            script,
            work.session,
            message=work.message_id,
            go_on=int(go_on),
            prompt_size=self._prompt_size,
            ttl_ms=self._ttl_ms,
            trace=stored_context(),
            attempt=attempt,
            **self._fenced(work, frame),
            **self._lease(self._partitions.of(work.session)),
            **arguments,
        )
        _raise_rejection(answer[0], work.session)
        return assignment_of(work.session, answer, attempt)

    def _release(
        self,
        work: Assignment,
        delay_ms: int,
        frame: dict[str, Any] | None,
        *,
        loading: bool = False,
    ) -> None:
        answer = self._run(
            "postpone",
            work.session,
            delay_ms=delay_ms,
            loading=int(loading),
            keep=int(work.options is not None),
            **self._fenced(work, frame),
        )
        _raise_rejection(answer, work.session)


def _raise_rejection(answer: str, session: str) -> None:
    if answer == "ended":
        raise SessionEnded(session)
    if answer == "lost":
        raise LeaseLost(session)
