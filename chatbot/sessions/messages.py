"""The session documents in RedisJSON, and what people do with them: begin, say, stop, retry, read, resume.

A session is known by its id, a one-way hash of its token: whoever reads Redis, logs or Flower can open none.
"""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from chatbot.errors import StoreUnavailable
from chatbot.protocol.client_errors import ClientError, RateLimited, SessionNotFound
from chatbot.protocol.documents import human_message, new_session
from chatbot.protocol.events import STOP_CHANNEL, to_json
from chatbot.sessions.ids import session_id
from chatbot.sessions.queue_delay import Backlog
from chatbot.store.keys import session_keys
from chatbot.store.scripts import Scripts

#: ms after which somebody should look at a message that no worker has taken: the queue takes a few ms, so that
#: a task not taken by then was lost, or waits behind others, where a second one does no harm.
LOOK_AFTER = 2000

#: 256 bits.
_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Bucket:
    """A rate: each message takes one out of a bucket that fills again evenly."""

    #: In Redis; whoever names the same shares the bucket.
    key: str
    #: ms for one more.
    each: float
    #: How many it holds.
    size: int


@dataclass(frozen=True)
class Accepted:
    """A message is stored and will be answered. `wake` tells whether a worker must be told of it."""

    id: str
    wake: bool = False
    #: The reply that a repeated message has already.
    reply: dict[str, Any] | None = None
    #: What was told about a repeated message that failed.
    failure: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """A session as one socket needs it, read in one step."""

    name: str
    session_start: str
    #: Seconds.
    expires_in: float
    #: Messages in the log.
    length: int
    #: Whether all after the given message follows; None when no message was given.
    recovered: bool | None
    messages: list[dict[str, Any]]
    #: Ids of messages without a reply, in the order in which they are answered.
    pending: list[str]
    #: What is generated so far of the reply to `pending[0]`.
    partial: str
    #: Ids of failed messages with what the person was told.
    failed: dict[str, str]
    #: Number of the last event that all this holds.
    event: int


class Sessions:
    """Every method raises `StoreUnavailable` when Redis does not do its part."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        ttl: int,
        max_pending: int,
        wait_replicas: int = 0,
        max_history: int = 0,
        max_queue_age: float = 0,
    ) -> None:
        """`ttl` in seconds; `max_pending` unanswered messages are the most in a session.

        What a client is promised, a session or that a message will be answered, `wait_replicas` replicas have before.
        A history keeps its `max_history` newest messages, 0 for all, and all that are unanswered. No message is
        taken on while one, of any session, has waited for a worker for more than `max_queue_age` seconds, 0 for ever.
        """
        self._client = client
        self._scripts = Scripts(client, replicas=wait_replicas)
        self._ttl_ms = ttl * 1000
        self._max_pending = max_pending
        self._max_history = max_history
        self._max_queue_age = max_queue_age
        self.backlog = Backlog(client)

    def create(self, name: str) -> dict[str, Any]:
        """A new session: `{"token", "name", "messages": [], "session_start"}`."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        document = new_session(name)
        self._scripts.keep("create", session_keys(session_id(token)), to_json(document), self._ttl_ms)
        return {"token": token, **document}

    def read(self, session: str) -> dict[str, Any]:
        """The document with its whole history; its time to live starts anew. Raises `SessionNotFound`."""
        answer = self._scripts.run("read", session_keys(session), self._ttl_ms)
        if not answer:
            raise SessionNotFound
        document: dict[str, Any] = json.loads(answer)
        return document

    def accept(self, session: str, message_id: str | None, text: str, buckets: Sequence[Bucket] = ()) -> Accepted:
        """Stores a message: from here on it cannot be lost. One with a known id is not a second message.

        Only what is not known takes from the `buckets`, from all or from none.
        Raises `SessionNotFound`, and `ClientError` `rate_limited`, `too_many_pending` or `invalid_id`.
        """
        given = message_id or uuid.uuid4().hex
        document = to_json(human_message(given, text))
        status, *rest = self._scripts.keep(
            "accept",
            (*session_keys(session), *(bucket.key for bucket in buckets)),
            session,
            given,
            document,
            self._ttl_ms,
            self._max_pending,
            LOOK_AFTER,
            self._max_history,
            self._max_queue_age * 1000,
            *_fillings(buckets),
        )
        if status == "accepted":
            self.backlog.observe(rest[1] / 1000)
            return Accepted(given, wake=not rest[0])
        if status == "known":
            return Accepted(given, reply=json.loads(rest[0]) if rest[0] else None, failure=rest[1] or None)
        if status == "not_yours":
            raise ClientError("invalid_id", "This id belongs to a reply: choose another", message_id=given)
        raise self._refusal(status, given, *rest)

    def retry(self, session: str, message_id: str, buckets: Sequence[Bucket] = ()) -> Accepted:
        """Has a failed message answered again; that takes from the `buckets` like a message.

        Raises `SessionNotFound`, and `ClientError` `rate_limited`, `not_retryable` or `too_many_pending`.
        """
        status, *rest = self._scripts.keep(
            "retry",
            (*session_keys(session), *(bucket.key for bucket in buckets)),
            session,
            message_id,
            self._ttl_ms,
            self._max_pending,
            LOOK_AFTER,
            self._max_queue_age * 1000,
            *_fillings(buckets),
        )
        if status in ("accepted", "known"):
            return Accepted(message_id, wake=status == "accepted" and not rest[0])
        raise self._refusal(status, message_id, *rest)

    def stop(self, session: str) -> bool:
        """Stops the reply being generated; true when a worker must be told, as none is at it.

        Raises `SessionNotFound`, and `ClientError` `nothing_to_stop`.
        """
        status, *rest = self._scripts.run("stop", session_keys(session), session, STOP_CHANNEL, self._ttl_ms)
        if status == "stopping":
            return not rest[0]
        raise self._refusal(status, None)

    def snapshot(
        self, session: str, *, after: str | None = None, position: int | None = None, touch: bool = True
    ) -> Snapshot:
        """What follows the message `after`, or the log's `position`; no messages when neither is given.

        Raises `SessionNotFound`.
        """
        answer = self._scripts.run(
            "snapshot",
            session_keys(session),
            after or "",
            self._ttl_ms if touch else "",
            "" if position is None else position,
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
        """Seconds that the session has still to live; 0 when it has ended."""
        try:
            return max(int(self._client.pttl(session_keys(session)[0])), 0) / 1000
        except redis.RedisError as error:
            raise StoreUnavailable(f"expires_in: {type(error).__name__}: {error}") from error

    def add_socket(self, session: str, field: str, most: int) -> bool:
        """Adds a socket, named by `field`, to a session; false when `most` are open in all web processes together.

        `field` is `<channel of the process>/<number>`. Adding a socket twice is adding it once. The sockets of
        processes that died do not count. Raises `SessionNotFound`.
        """
        answer = self._scripts.run("add_socket", session_keys(session), field, most)
        if answer == "gone":
            raise SessionNotFound
        return bool(answer == "added")

    def remove_sockets(self, sockets: Sequence[tuple[str, str]]) -> None:
        """Removes sockets, each a session and a field, in one round trip. Unknown ones do no harm."""
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for session, field in sockets:
                    pipeline.hdel(session_keys(session)[-1], field)
                pipeline.execute()
        except redis.RedisError as error:
            raise StoreUnavailable(f"remove_sockets: {type(error).__name__}: {error}") from error

    def _refusal(self, status: str, message_id: str | None, *rest: int) -> ClientError:
        if status == "gone":
            return SessionNotFound()
        if status == "limited":
            return RateLimited(rest[0] / 1000, message_id)
        if status == "behind":
            wait = self.backlog.retry_after(rest[0] / 1000, self._max_queue_age)
            return RateLimited(wait, message_id, "The chat is overloaded: send this again later")
        if status == "full":
            return ClientError(
                "too_many_pending",
                "Too many messages wait for their replies: wait for one, then send this again",
                message_id=message_id,
                retry_after=1.0,
            )
        if status == "not_retryable":
            return ClientError(
                "not_retryable", "Only a message whose reply failed can be retried", message_id=message_id
            )
        if status == "nothing":
            return ClientError("nothing_to_stop", "No reply is being generated")
        raise StoreUnavailable(f"a script answered {status!r}")


def _fillings(buckets: Sequence[Bucket]) -> list[float]:
    return [value for bucket in buckets for value in (bucket.each, bucket.size)]
