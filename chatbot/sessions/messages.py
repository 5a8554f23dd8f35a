"""The web's side of a session: what users do with it. Create, read, send, stop, retry, resume, end.

A session is known by its id, a one-way hash of its token: ids in Redis, logs or Flower open no session.
"""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from chatbot.errors import StoreUnavailable
from chatbot.protocol.client_errors import ClientError, RateLimited, SessionNotFound
from chatbot.protocol.documents import human_message, new_session
from chatbot.protocol.events import STOP_CHANNEL, events_channel, to_json
from chatbot.sessions.buckets import Bucket, takes
from chatbot.sessions.ids import session_id
from chatbot.sessions.pages import PAGE_BYTES, PAGE_MESSAGES, Page, unknown_message
from chatbot.sessions.refusals import refusal
from chatbot.store.keys import AFTER_ID, BEFORE_ID, LINE, session_keys
from chatbot.store.scripts import Scripts, Value

#: Milliseconds until the first check of a message that no worker has taken. The queue takes a few: by then the task was
#: lost, or waits behind others, where a second task does no harm.
CHECK_AFTER = 2000

#: 256 bits.
_TOKEN_BYTES = 32


@dataclass(frozen=True)
class Accepted:
    """A message is stored and will be answered. `wake` says whether a task must be enqueued for that."""

    id: str
    wake: bool = False
    #: Number of the event that published a new message; 0 for a repeated one.
    event: int = 0
    #: The reply of a repeated message, if it has one.
    reply: dict[str, Any] | None = None
    #: The text shown to the user when the repeated message failed.
    failure: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """What one socket needs of a session, read in one step."""

    name: str
    session_start: str
    #: Seconds.
    expires_in: float
    #: Messages in the log.
    length: int
    #: Whether `messages` holds all that follow the given message or position: false when that one is unknown, or more
    #: than a page follows. None when neither was given.
    recovered: bool | None
    messages: list[dict[str, Any]]
    #: Ids of messages without a reply, in the order in which they are answered.
    pending: list[str]
    #: The text generated so far of the reply to `pending[0]`.
    partial: str
    #: Ids of failed messages, each with the text shown to the user.
    failed: dict[str, str]
    #: Number of the last event that the snapshot includes.
    event: int


class Sessions:
    """Every method raises `StoreUnavailable` when Redis fails."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        ttl: int,
        max_pending: int,
        wait_replicas: int = 0,
        max_history: int = 0,
        max_history_bytes: int = 0,
        max_queue_age: float = 0,
        max_age: int = 0,
    ) -> None:
        """`ttl` in seconds; a session has at most `max_pending` unanswered messages, and ends `max_age` seconds after
        its start, however much it is used; 0 for no limit.

        A new session or message is on `wait_replicas` replicas before a method returns it. A history keeps its
        `max_history` newest messages that take `max_history_bytes` of Redis' memory, 0 for all, and every unanswered
        one. While the queue delay exceeds `max_queue_age` seconds messages are refused; 0 for no limit.
        """
        self._client = client
        self._scripts = Scripts(client, replicas=wait_replicas)
        self._ttl_ms = ttl * 1000
        self._max_pending = max_pending
        self._history = {"max_history": max_history, "max_history_bytes": max_history_bytes}
        self._max_queue_age = max_queue_age
        self._max_age_ms = max_age * 1000

    def create(self, name: str) -> dict[str, Any]:
        """Creates a session: `{"token", "name", "messages": [], "session_start"}`."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        document = new_session(name)
        keys = session_keys(session_id(token))
        self._scripts.run_replicated(
            "create", keys, content=to_json(document), ttl_ms=self._ttl_ms, max_age_ms=self._max_age_ms
        )
        return {"token": token, **document}

    def read(
        self, session: str, before: str | None = None, limit: int = PAGE_MESSAGES, buckets: Sequence[Bucket] = ()
    ) -> Page:
        """The newest page of the history, or the page before the message `before`; renews the time to live.

        Takes a token from each of the `buckets`. Raises `SessionNotFound`, and `ClientError` `rate_limited` or
        `unknown_message`.
        """
        status, *rest = self._scripts.run(
            "read",
            (*session_keys(session), *(bucket.key for bucket in buckets)),
            *takes(buckets, ""),
            before=before or "",
            limit=limit,
            page_bytes=PAGE_BYTES,
            ttl_ms=self._ttl_ms,
        )
        if status == "page":
            return Page(*rest)
        if status == "unknown":
            raise unknown_message()
        if status == "limited":
            raise RateLimited(rest[0] / 1000, message="Too many reads of histories: ask again in a moment")
        raise refusal(status, self._max_queue_age, None)

    def end(self, session: str, further_keys: Sequence[str] = ()) -> bool:
        """Deletes the session, and `further_keys`, in one step; false when there is none.

        Its sockets are closed, and a worker's further writes are rejected.
        """
        keys = (*session_keys(session), *further_keys)
        return bool(self._scripts.run_replicated("end", keys, session=session, events=events_channel(session)))

    def ids(self) -> Iterator[str]:
        """The ids of all sessions; one that is created meanwhile may be missing."""
        try:
            for key in self._client.scan_iter(session_keys("*").document, count=1000):
                yield key.removeprefix(BEFORE_ID).partition(AFTER_ID)[0]
        except redis.RedisError as error:
            raise StoreUnavailable(f"ids: {type(error).__name__}: {error}") from error

    def accept(
        self, session: str, message_id: str | None, text: str, buckets: Sequence[Bucket] = (), address: str = "unknown"
    ) -> Accepted:
        """Stores a message, which cannot be lost from then on. One with a known id is a repetition, and is not stored.

        A new message takes a token from each of the `buckets`, or from none; a repetition takes none. In overload,
        messages of the `address` with most sessions in line are refused: see scripts/_admission.lua.
        Raises `SessionNotFound`, and `ClientError` `rate_limited`, `too_many_pending` or `invalid_id`.
        """
        given = message_id or uuid.uuid4().hex
        status, *rest = self._admit(
            "accept",
            session,
            given,
            buckets,
            address,
            text,
            content=to_json(human_message(given, text)),
            events=events_channel(session),
            **self._history,
        )
        if status == "accepted":
            return Accepted(given, wake=not rest[0], event=rest[1])
        if status == "known":
            return Accepted(given, reply=json.loads(rest[0]) if rest[0] else None, failure=rest[1] or None)
        if status == "not_yours":
            raise ClientError("invalid_id", "This id belongs to a reply: choose another", message_id=given)
        raise refusal(status, self._max_queue_age, given, *rest)

    def retry(
        self, session: str, message_id: str, buckets: Sequence[Bucket] = (), address: str = "unknown"
    ) -> Accepted:
        """Makes a failed message unanswered again; that takes tokens like a new message.

        Raises `SessionNotFound`, and `ClientError` `rate_limited`, `not_retryable` or `too_many_pending`.
        """
        stores_nothing = [bucket for bucket in buckets if not bucket.counts_bytes]
        status, *rest = self._admit("retry", session, message_id, stores_nothing, address, "")
        if status in ("accepted", "known"):
            return Accepted(message_id, wake=status == "accepted" and not rest[0])
        raise refusal(status, self._max_queue_age, message_id, *rest)

    def stop(self, session: str) -> bool:
        """Stops the reply being generated; true when a task must be enqueued, as no worker holds the lease.

        Raises `SessionNotFound`, and `ClientError` `nothing_to_stop`.
        """
        status, *rest = self._scripts.run(
            "stop", session_keys(session), session=session, stop_channel=STOP_CHANNEL, ttl_ms=self._ttl_ms
        )
        if status == "stopping":
            return not rest[0]
        raise refusal(status, self._max_queue_age, None)

    def snapshot(
        self, session: str, *, after: str | None = None, position: int | None = None, touch: bool = True
    ) -> Snapshot:
        """The session with what follows the message `after`, or the log's `position`; without either, no messages.

        There are no messages either when more than a page follows. `touch` renews the time to live. Raises
        `SessionNotFound`.
        """
        answer = self._scripts.run(
            "snapshot",
            session_keys(session),
            after=after or "",
            position="" if position is None else position,
            page_messages=PAGE_MESSAGES,
            page_bytes=PAGE_BYTES,
            ttl_ms=self._ttl_ms if touch else "",
        )
        if answer[0] == "gone":
            raise SessionNotFound
        _, name, start, ttl, length, recovered, messages, partial, pending, failed, event = answer
        return Snapshot(
            name=json.loads(name),
            session_start=json.loads(start),
            expires_in=ttl / 1000,
            length=length,
            recovered=None if recovered == "" else recovered == "1",
            messages=json.loads(messages) if messages else [],
            pending=pending,
            partial=partial,
            failed=dict(zip(failed[::2], failed[1::2], strict=True)),
            event=event,
        )

    def expires_in(self, session: str) -> float:
        """Seconds until the session expires; 0 when it has."""
        try:
            return max(int(self._client.pttl(session_keys(session).document)), 0) / 1000
        except redis.RedisError as error:
            raise StoreUnavailable(f"expires_in: {type(error).__name__}: {error}") from error

    def add_socket(self, session: str, field: str, most: int) -> bool:
        """Adds a socket, named by `field`, to a session; false when `most` are open in all web processes together.

        `field` is `<channel of the process>/<number>`. Adding a socket twice is adding it once. The sockets of
        processes that died do not count. Raises `SessionNotFound`.
        """
        answer = self._scripts.run("add_socket", session_keys(session), field=field, most=most)
        if answer == "gone":
            raise SessionNotFound
        return bool(answer == "added")

    def remove_sockets(self, sockets: Sequence[tuple[str, str]]) -> None:
        """Removes sockets, each a session and a field, in one round trip. Unknown ones do no harm."""
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for session, field in sockets:
                    pipeline.hdel(session_keys(session).sockets, field)
                pipeline.execute()
        except redis.RedisError as error:
            raise StoreUnavailable(f"remove_sockets: {type(error).__name__}: {error}") from error

    def _admit(
        self,
        script: str,
        session: str,
        message_id: str,
        buckets: Sequence[Bucket],
        address: str,
        text: str,
        **arguments: Value,
    ) -> list[Any]:
        answer: list[Any] = self._scripts.run_replicated(
            script,
            (*session_keys(session), *(bucket.key for bucket in buckets), f"{LINE}{address}"),
            *takes(buckets, text),
            session=session,
            message=message_id,
            ttl_ms=self._ttl_ms,
            max_pending=self._max_pending,
            check_after_ms=CHECK_AFTER,
            max_wait_ms=self._max_queue_age * 1000,
            **arguments,
        )
        return answer
