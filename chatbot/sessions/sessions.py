"""Sessions, as web processes use them: create, import, read, resume, select, rate, end.

A session is known by its id, a one-way hash of its token: ids in Redis, logs or Flower open no session.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import redis

from chatbot.errors import StoreUnavailable
from chatbot.protocol import frames
from chatbot.protocol.chat_files import ChatFile
from chatbot.protocol.client_errors import RateLimited, SessionNotFound
from chatbot.protocol.compact_json import to_json
from chatbot.protocol.documents import feedback, new_session
from chatbot.sessions.admission import Admission
from chatbot.sessions.buckets import Bucket, takes
from chatbot.sessions.ids import session_id
from chatbot.sessions.imports import UNANSWERED, lay_out
from chatbot.sessions.pages import PAGE_BYTES, PAGE_MESSAGES, Page, unknown_message
from chatbot.sessions.refusals import refusal
from chatbot.sessions.requests import Requests
from chatbot.sessions.session_scripts import SessionScripts
from chatbot.sessions.snapshots import Snapshot
from chatbot.sessions.sockets import Sockets
from chatbot.store.circuit_breakers import CircuitBreakers
from chatbot.store.errors import store_errors
from chatbot.store.partitions import Partition, Store, partitions_of
from chatbot.store.scripts import Value

#: 256 bits.
_TOKEN_BYTES = 32
_TOO_MUCH_IMPORTED = "Too much was imported: try again in a while"
_TOO_MANY_READS = "Too many reads of histories: ask again in a moment"
#: Tokens that are drawn for a new session at most, until its Redis answers.
_MOST_TOKENS = 20


class Sessions:
    """Every method raises `StoreUnavailable` when Redis fails, and `SessionDamaged`."""

    def __init__(
        self,
        store: Store,
        *,
        ttl: int,
        max_pending: int,
        wait_replicas: int = 0,
        max_history: int = 0,
        max_history_bytes: int = 0,
        max_queue_age: float = 0,
        max_age: int = 0,
        task: Callable[[str], tuple[str, str]] = lambda _: ("", ""),
    ) -> None:
        """`ttl` in seconds; a session has at most `max_pending` unanswered requests, and ends `max_age` seconds after
        its start, however much it is used; 0 for no limit.

        What is accepted is on `wait_replicas` replicas before a method returns it. A history keeps its
        `max_history` newest messages that take `max_history_bytes` of Redis' memory, 0 for all, and every unanswered
        one. A request whose expected wait exceeds `max_queue_age` seconds is refused; 0 for no limit.

        Where the sessions' Redis is the broker too, `task` returns for a session the list and the element that enqueue
        its task: the step that accepts a request enqueues it.
        """
        self._partitions = partitions_of(store)
        self._scripts = SessionScripts(self._partitions, replicas=wait_replicas)
        self._breakers = CircuitBreakers()
        self._admission = Admission(self._partitions, self._breakers, max_queue_age)
        self._ttl_ms = ttl * 1000
        self._max_age_ms = max_age * 1000
        self._max_queue_age = max_queue_age
        #: The sockets that are open.
        self.sockets = Sockets(self._partitions, self._scripts)
        #: What asks for a reply.
        self.requests = Requests(
            self._partitions,
            self._scripts,
            self._admission,
            ttl=ttl,
            max_pending=max_pending,
            max_history=max_history,
            max_history_bytes=max_history_bytes,
            max_queue_age=max_queue_age,
            task=task,
        )

    def create(self, name: str, *, max_age: float = 0, token: str = "") -> dict[str, Any]:
        """Creates a session: `{"token", "name", "messages": [], "session_start"}`. It lives `max_age` seconds at most
        if that is not 0, however much it is used. A `token` that is given may be that of a session that exists."""
        document = new_session(name)
        age = int(max_age * 1000) or self._max_age_ms
        for _ in range(_MOST_TOKENS if self._partitions.several and not token else 0):
            token = secrets.token_urlsafe(_TOKEN_BYTES)
            group = self._partitions.of(session_id(token)).group
            step = partial(self._create, token, document, age)
            if self._breakers.call(group, step, False, "a new session is elsewhere"):
                return {"token": token, **document}
        # There is one Redis, or all have failed.
        token = token or secrets.token_urlsafe(_TOKEN_BYTES)
        self._create(token, document, age)
        return {"token": token, **document}

    def _create(self, token: str, document: dict[str, Any], age: int) -> bool:
        content = to_json(document)
        arguments: dict[str, Value] = {"content": content, "ttl_ms": self._ttl_ms, "max_age_ms": age}
        self._scripts.run_replicated("create", session_id(token), **arguments)
        return True

    def import_chat(self, chat: ChatFile, buckets: Sequence[Bucket] = ()) -> dict[str, Any]:
        """Creates a session with the messages of a file, and returns it without them. Messages without a reply count as
        failed.

        Takes the bytes of the messages from the `buckets`. Raises `ClientError` `rate_limited` or `invalid_import`.
        """
        layout = lay_out(chat.messages, chat.leaf)
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        document = new_session(chat.name)
        content = to_json({**document, "messages": layout.messages})
        further = {
            "index": [text for pair in layout.index.items() for text in pair],
            "state": [text for pair in layout.state.items() for text in pair],
            "failed": [text for request in layout.unanswered for text in (request, UNANSWERED)],
            "turns": layout.entries,
        }
        own, elsewhere = self._admission.split(session_id(token), buckets)
        if wait := self._admission.take(elsewhere, 1, content):
            raise RateLimited(wait / 1000, message=_TOO_MUCH_IMPORTED)
        status, *rest = self._scripts.run_replicated(
            "import",
            session_id(token),
            [bucket.key for bucket in own],
            *takes(own, content),
            content=content,
            further=to_json(further),
            ttl_ms=self._ttl_ms,
            max_age_ms=self._max_age_ms,
        )
        if status == "limited":
            raise RateLimited(rest[0] / 1000, message=_TOO_MUCH_IMPORTED)
        return {"token": token, **document}

    def read(
        self, session: str, before: str | None = None, limit: int = PAGE_MESSAGES, buckets: Sequence[Bucket] = ()
    ) -> Page:
        """The newest page of the history, or the page before the message `before`; renews the time to live.

        Takes a token from each of the `buckets`. Raises `SessionNotFound`, and `ClientError` `rate_limited` or
        `unknown_message`.
        """
        buckets, elsewhere = self._admission.split(session, buckets)
        if wait := self._admission.take(elsewhere, 1):
            raise RateLimited(wait / 1000, message=_TOO_MANY_READS)
        status, *rest = self._scripts.run(
            "read",
            session,
            [bucket.key for bucket in buckets],
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
            raise RateLimited(rest[0] / 1000, message=_TOO_MANY_READS)
        raise refusal(status, self._max_queue_age, None)

    def end(self, session: str, further_keys: Sequence[str] = (), at: Partition | None = None) -> bool:
        """Deletes the session, and `further_keys`, in one step; false when it does not exist.

        Its sockets are closed, and a worker's further writes are rejected. `at` says where the session is, if that may
        not be its partition: it was there before REDIS_URL named another Redis.
        """
        at = at or self._partitions.of(session)
        events = at.events(session)
        return bool(self._scripts.run_replicated_at(at, "end", session, further_keys, session=session, events=events))

    def find_all(self) -> Iterator[tuple[str, Partition]]:
        """The ids of all sessions, and the partition that has each; one that is created meanwhile may be missing.

        Raises `StoreUnavailable` for a Redis that fails, after those of the others.
        """
        failures: list[redis.RedisError] = []
        for partition in self._partitions.all:
            before, _, after = partition.keys("*").document.partition("*")
            try:
                for key in partition.client.scan_iter(f"{before}*{after}", count=1000):
                    yield key.removeprefix(before).removesuffix(after), partition
            except redis.RedisError as error:
                failures.append(error)
        if failures:
            raise StoreUnavailable(f"sessions: {type(failures[0]).__name__}: {failures[0]}") from failures[0]

    def select(self, session: str, message_id: str) -> None:
        """Shows the path through a message, down to the newest message below it, and publishes its end.

        Raises `SessionNotFound`, and `ClientError` `message_not_found`.
        """
        events = self._partitions.of(session).events(session)
        status, *_ = self._scripts.run("select", session, message=message_id, events=events, ttl_ms=self._ttl_ms)
        if status != "selected":
            raise refusal(status, self._max_queue_age, message_id)

    def rate(self, session: str, reply_id: str, rating: str | None, text: str | None) -> None:
        """Stores the user's opinion of a reply with it, or withdraws it without a `rating`, and publishes it.

        Raises `SessionNotFound`, and `ClientError` `message_not_found`.
        """
        text = text if rating else None
        status, *_ = self._scripts.run(
            "feedback",
            session,
            message=reply_id,
            content=to_json(feedback(rating, text)) if rating else "",
            frame=to_json(frames.feedback(reply_id, rating, text)),
            events=self._partitions.of(session).events(session),
            ttl_ms=self._ttl_ms,
        )
        if status != "stored":
            raise refusal(status, self._max_queue_age, reply_id)

    def snapshot(
        self,
        session: str,
        *,
        after: str | None = None,
        position: int | None = None,
        buckets: Sequence[Bucket] = (),
        touch: bool = True,
    ) -> Snapshot:
        """The session with what follows the message `after`, or the log's `position`; without either, no messages.

        There are no messages either when more than a page follows, or when one of the `buckets` lacks their part of a
        token, which stands for a page. `touch` renews the time to live. Raises
        `SessionNotFound`.
        """
        buckets, elsewhere = self._admission.split(session, buckets)
        answer = self._scripts.run(
            "snapshot",
            session,
            [bucket.key for bucket in buckets],
            *takes(buckets, ""),
            after=after or "",
            position="" if position is None else position,
            page_messages=PAGE_MESSAGES,
            page_bytes=PAGE_BYTES,
            ttl_ms=self._ttl_ms if touch else "",
        )
        if answer[0] == "gone":
            raise SessionNotFound
        found, length = Snapshot.of(answer)
        if found.messages:
            # As scripts/snapshot.lua computes it.
            share = max(len(found.messages) / PAGE_MESSAGES, min(length / PAGE_BYTES, 1))
            if self._admission.take(elsewhere, share):
                return replace(found, messages=[], recovered=False)
        return found

    def expires_in(self, session: str) -> float:
        """Seconds until the session expires; 0 when it has."""
        partition = self._partitions.of(session)
        with store_errors("expires_in"):
            return max(int(partition.client.pttl(partition.keys(session).document)), 0) / 1000
