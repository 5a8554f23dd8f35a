"""What asks for a reply: a message, an edited one, a regeneration, a retry. Each is accepted in one atomic step.

A request is named by the id of its human message, or by an id of its own when it is a regeneration: another reply to
the same message. Workers answer a session's requests in the order in which they were accepted.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from chatbot.protocol.client_frames import LEAF, OnBusy
from chatbot.protocol.compact_json import to_json
from chatbot.protocol.documents import human_message
from chatbot.protocol.events import STOP_CHANNEL
from chatbot.sessions.admission import Admission
from chatbot.sessions.buckets import Bucket, takes
from chatbot.sessions.refusals import refusal
from chatbot.sessions.session_scripts import SessionScripts
from chatbot.store.partitions import Partitions
from chatbot.store.scripts import Value
from chatbot.tracing import stored_context

#: Milliseconds until the first check of a message that no worker has taken. The queue takes a few: by then the task was
#: lost, or waits behind others, where a second task does no harm.
CHECK_AFTER = 2000


@dataclass(frozen=True)
class Accepted:
    """A request is stored and will be answered. `wake` says whether a task must be enqueued for that."""

    id: str
    wake: bool = False
    #: The number of the event that published the request; 0 for a repeated one, and for a retry.
    event: int = 0
    #: Whether the request was known before.
    repeated: bool = False
    #: The reply of a repeated request, if it has one.
    reply: dict[str, Any] | None = None
    #: The text shown to the user when the repeated request failed.
    failure: str | None = None
    #: What the `ack` says besides: the `parent` of a message, or `reply_to`, the human message of a regeneration.
    about: dict[str, str | None] = field(default_factory=dict)


class Terms(NamedTuple):
    """What decides whether a request is accepted, besides its session."""

    #: A new request takes a token from each of them, or from none; a repetition takes none.
    buckets: Sequence[Bucket] = ()
    #: In overload, requests of the address with most sessions in line are refused: see scripts/_admission.lua.
    address: str = "unknown"
    #: While the session has an unanswered request, the new one waits for it, stops its reply, or is refused.
    on_busy: OnBusy = "queue"
    #: What `Charges.reserve` returned for a request with an API key.
    charge: str = ""


NO_RATES = Terms()


class _Request(NamedTuple):
    """A request that is to be accepted."""

    session: str
    id: str
    terms: Terms
    #: What is counted by buckets of bytes.
    text: str = ""


class Requests:
    """Every method raises `StoreUnavailable` when Redis fails, `SessionNotFound`, `SessionDamaged`, and `ClientError`:
    `rate_limited`, `too_many_pending`, `busy`.
    """

    def __init__(
        self,
        partitions: Partitions,
        scripts: SessionScripts,
        admission: Admission,
        *,
        ttl: int,
        max_pending: int,
        max_history: int,
        max_history_bytes: int,
        max_queue_age: float,
        task: Callable[[str], tuple[str, str]],
    ) -> None:
        """The options are those of `Sessions`."""
        self._partitions = partitions
        self._scripts = scripts
        self._admission = admission
        self._ttl_ms = ttl * 1000
        self._max_pending = max_pending
        self._history = {"max_history": max_history, "max_history_bytes": max_history_bytes}
        self._max_queue_age = max_queue_age
        self._task = task
        # The group whose Redis is the broker too; in a Redis Cluster the queue has a slot of its own.
        self._broker = None if partitions.all[0].tag else partitions.groups[0]

    def accept(
        self,
        session: str,
        message_id: str | None,
        text: str,
        terms: Terms = NO_RATES,
        *,
        parent: str | None = LEAF,
        extra: Mapping[str, Any] | None = None,
    ) -> Accepted:
        """Stores a message, which cannot be lost from then on. One with a known id is a repetition, and is not stored.

        It follows the message or request `parent`: None is the beginning, `LEAF` the end of the path that the session
        shows. `extra` are further fields of the stored message, `items` and `options`. Raises `ClientError`
        `invalid_id` or `message_not_found` too.
        """
        request = _Request(session, message_id or uuid.uuid4().hex, terms, text)
        return self._store(request, extra, parent_id=parent or "", sibling="")

    def edit(self, session: str, of: str, message_id: str | None, text: str, terms: Terms = NO_RATES) -> Accepted:
        """Stores a message that follows what the human message `of` follows; like `accept` otherwise."""
        request = _Request(session, message_id or uuid.uuid4().hex, terms, text)
        return self._store(request, None, parent_id="", sibling=of)

    def regenerate(self, session: str, of: str, request_id: str | None, terms: Terms = NO_RATES) -> Accepted:
        """Requests another reply to the human message `of`, or to that of the reply `of`; a known id is a repetition.

        Raises `ClientError` `invalid_id` or `message_not_found` too.
        """
        given = request_id or uuid.uuid4().hex
        request = _Request(session, given, _without_text(terms))
        answer = self._admit("regenerate", request, of=of, events=self._partitions.of(session).events(session))
        accepted, human = self._accepted(given, answer)
        accepted.about["reply_to"] = human
        return accepted

    def retry(self, session: str, request_id: str, terms: Terms = NO_RATES) -> Accepted:
        """Makes a failed request unanswered again. Raises `ClientError` `not_retryable` too."""
        request = _Request(session, request_id, _without_text(terms))
        answer = self._admit("retry", request)
        if answer == ["known"]:
            return Accepted(request_id, repeated=True)
        return self._accepted(request_id, answer)[0]

    def stop(self, session: str) -> bool:
        """Stops the reply being generated; true when a task must be enqueued, as no worker holds the lease.

        Raises `ClientError` `nothing_to_stop`.
        """
        status, *rest = self._scripts.run(
            "stop", session, session=session, stop_channel=STOP_CHANNEL, ttl_ms=self._ttl_ms
        )
        if status == "stopping":
            return not rest[0]
        raise refusal(status, self._max_queue_age, None)

    def _store(self, request: _Request, extra: Mapping[str, Any] | None, **place: Value) -> Accepted:
        content = to_json(human_message(request.id, request.text, extra=extra))
        if extra:
            # All that is stored of a message with items counts.
            request = request._replace(text=content)
        answer = self._admit(
            "accept",
            request,
            # The script knows the parent, the last field.
            content=content.removesuffix("null}"),
            events=self._partitions.of(request.session).events(request.session),
            **place,
            **self._history,
        )
        accepted, parent = self._accepted(request.id, answer)
        found = json.loads(parent)
        if found != []:
            accepted.about["parent"] = found[0] if isinstance(found, list) else found
        return accepted

    def _accepted(self, request_id: str, answer: list[Any]) -> tuple[Accepted, str]:
        """The result of a step, and what its script says of the request besides. Raises `ClientError`."""
        status, *rest = answer
        if status == "accepted":
            return Accepted(request_id, wake=bool(rest[0]), event=int(rest[1])), rest[2]
        if status == "known":
            reply = json.loads(rest[0]) if rest[0] else None
            return Accepted(request_id, repeated=True, reply=reply, failure=rest[1] or None), rest[2]
        raise refusal(status, self._max_queue_age, request_id, *rest)

    def _admit(self, script: str, request: _Request, **arguments: Value) -> list[Any]:
        """The answer of the script that accepts or refuses the request; in two steps where its address is elsewhere."""
        step = partial(self._run_admission, script, request, arguments)
        terms = request.terms
        if self._admission.elsewhere(request.session, terms.address):
            return self._admission.admit(request.session, terms.address, terms.buckets, request.text, step)
        return step("here" if self._partitions.several else "", terms.buckets)

    def _run_admission(
        self, script: str, request: _Request, arguments: Mapping[str, Value], elsewhere: str, buckets: Sequence[Bucket]
    ) -> list[Any]:
        """`elsewhere` is what the partition of the request's address answered; see scripts/_admission.lua."""
        session, address = request.session, request.terms.address
        line = [self._partitions.of_address(address).line(address)] if elsewhere in ("", "here") else []
        queue, task = self._task(session) if self._partitions.of(session).group is self._broker else ("", "")
        answer: list[Any] = self._scripts.run_replicated(
            script,
            session,
            [*(bucket.key for bucket in buckets), *line],
            *takes(buckets, request.text),
            session=session,
            message=request.id,
            ttl_ms=self._ttl_ms,
            max_pending=self._max_pending,
            check_after_ms=CHECK_AFTER,
            max_wait_ms=self._max_queue_age * 1000,
            on_busy=request.terms.on_busy,
            stop_channel=STOP_CHANNEL,
            charge=request.terms.charge,
            trace=stored_context(),
            elsewhere=elsewhere,
            queue=queue,
            task=task,
            **arguments,
        )
        return answer


def _without_text(terms: Terms) -> Terms:
    """The terms of a request that stores no text."""
    return terms._replace(buckets=[bucket for bucket in terms.buckets if not bucket.counts_bytes])
