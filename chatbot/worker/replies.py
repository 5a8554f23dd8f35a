"""Answers the unanswered messages of a session, one after the other. Independent of Celery."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from chatbot import tracing
from chatbot.config import Settings
from chatbot.errors import DamagedSession, StoreUnavailable
from chatbot.logs import bound
from chatbot.protocol.openai.calls import ended_calls
from chatbot.sessions.leases import Assignment, LeaseLost, Leases, SessionEnded
from chatbot.telemetry.counters import (
    MODEL_ERRORS,
    REPLIES,
    RETRIES,
    TAKEOVERS,
    WORKER_REDIS_ERRORS,
    Counts,
)
from chatbot.worker import traces
from chatbot.worker.generation import Generator, log_reply
from chatbot.worker.grouped_streams import GroupedStreams
from chatbot.worker.model_requests import ModelRequests
from chatbot.worker.models.base import Model
from chatbot.worker.models.call import Call
from chatbot.worker.models.errors import (
    CallCancelled,
    ModelError,
    ModelLoading,
    ModelUnavailable,
    PermanentModelError,
)
from chatbot.worker.models.event_loop import ModelLoop, current_loop, outside
from chatbot.worker.open_streams import OpenStreams
from chatbot.worker.retries import retry_delay
from chatbot.worker.stream import Stream

logger = logging.getLogger(__name__)

#: Seconds for which a step that settles a message is retried while Redis is unavailable: about as long as a restart.
_SETTLE_TIMEOUT = 60.0
#: Seconds between those retries: at first, doubling up to the longest.
_FIRST_SETTLE_DELAY, _LONGEST_SETTLE_DELAY = 0.1, 1.0

T = TypeVar("T")


class _Settled(NamedTuple):
    """What became of a request."""

    #: The session's next request, under the same lease.
    following: Assignment | None
    #: Whether a failure was recorded that is not its client's fault.
    failed: bool = False
    #: Seconds until the retry; None where none is scheduled.
    retry_in: float | None = None


class Outcome(NamedTuple):
    """What became of a session's requests."""

    #: Requests for which a failure was recorded that is not their client's fault.
    failures: int = 0
    #: Seconds until the last one is tried again; None where no retry is scheduled.
    retry_in: float | None = None


class Replies:
    """Settles messages: each that a worker claims gets its reply or a recorded failure, or stays in the ledger for
    another worker."""

    def __init__(
        self,
        leases: Leases,
        streams: OpenStreams | GroupedStreams,
        model: Model,
        settings: Settings,
        counts: Counts,
        loop: ModelLoop | None = None,
    ) -> None:
        """In `loop`, if there is one, run the replies of a model that can do so; else in the thread of `answer`."""
        #: The loop in which replies run; None where each has a thread.
        self.loop = loop if model.in_loop else None
        self._leases = leases
        self._streams = streams
        self._requests = ModelRequests(model, settings)
        self._generator = Generator(self._requests, counts)
        self._counts = counts
        self._settings = settings
        self._timeout = settings.model.timeout
        self._max_attempts = settings.model.attempts
        self._loading_timeout = settings.model.loading_timeout
        #: Set when the worker shuts down: no further message is begun.
        self.draining = False

    def answer(self, session: str) -> Outcome:
        """Answers the session's requests until none is left, or the next one is to be tried again later.

        Settles none when another worker holds the lease. Raises `StoreUnavailable`; the ledger then has the rest.
        """
        if self.loop is None or current_loop() is self.loop:
            return self._answer_all(session)
        return self.loop.run(lambda: self._answer_all(session))

    def _answer_all(self, session: str) -> Outcome:
        failures, retry_in = 0, None
        try:
            for settled in self._settle_all(session):
                failures += settled.failed
                retry_in = settled.retry_in
        except DamagedSession as damage:
            with bound(session=session):
                last = outside(partial(self._leases.give_up, session, damage))
                after = ", and is given up" if last else ""
                logger.error("the session is damaged%s: %s", after, damage)  # noqa: TRY400 - the text says it all
        return Outcome(failures, retry_in)

    def _settle_all(self, session: str) -> Iterator[_Settled]:
        """Settles the session's requests; yields what became of each."""
        if self.draining:
            return
        claimed: int | None = time.time_ns()
        work = self._leases.claim(session)
        while work is not None:
            with bound(session=session, message_id=work.message_id), traces.attempt(work, claimed) as attempt:
                try:
                    settled = self._answer(work)
                except SessionEnded:
                    logger.info("the session ended while its reply was generated")
                    return
                except LeaseLost:
                    self._counts.add(TAKEOVERS)
                    logger.info("another worker has taken over")
                    if attempt is not None:
                        # That worker records it.
                        attempt.sampled = False
                    return
            claimed, work = None, settled.following
            yield settled

    def _answer(self, work: Assignment) -> _Settled:
        """Settles one message."""
        if work.stopped:
            return self._commit(work, "stopped", None)
        if work.partial and work.sends_text and not self._requests.continues(work):
            logger.warning("the reply of another worker ends at %d characters, its events are sent", len(work.partial))
            return self._commit(work, "interrupted", None)
        request_id = f"{work.session}:{work.message_id}"
        call = Call(self._timeout, request_id, work.session, loading_timeout=self._loading_timeout, assignment=work)
        stream = self._streams.open(work, call)
        try:
            try:
                call.loop = self.loop
                finish_reason = self._generate(work, call, stream)
            finally:
                self._streams.close(stream)
        except CallCancelled as cancelled:
            return self._settle_cancelled(work, stream, cancelled.reason)
        except ModelError as error:
            return self._settle_failed(work, error, stream)
        except Exception:
            # A bug must not leave the message unanswered, nor be retried for ever.
            logger.exception("generating a reply failed")
            return self._settle_failed(work, PermanentModelError("internal", "see the traceback above"), stream)
        settled = self._commit(work, finish_reason, stream)
        log_reply(stream, finish_reason)
        return settled

    def _generate(self, work: Assignment, call: Call, stream: Stream) -> str:
        try:
            return traces.model_call(self._settings, call, stream, lambda: self._generator.generate(work, call, stream))
        finally:
            stream.ended = True

    def _settle_cancelled(self, work: Assignment, stream: Stream, reason: str) -> _Settled:
        if reason == "ended":
            raise SessionEnded(work.session)
        if reason == "lease" or stream.lost:
            raise LeaseLost(work.session)
        if reason == "stop":
            return self._commit(work, "stopped", stream)
        if reason == "shutdown":
            logger.info("handing the message back: this worker shuts down")
            self._store_rest(stream)
            traces.failed(reason)
            self._settle("hand back", lambda: self._leases.hand_back(work))
            return _Settled(None)
        if stream.begun:
            logger.warning("the reply took longer than MODEL_TIMEOUT and is cut at %d characters", len(stream.text))
            return self._commit(work, "length", stream)
        return self._settle_failed(
            work, ModelUnavailable("timeout", f"no text within {stream.call.first_limit}"), stream
        )

    def _store_rest(self, stream: Stream) -> None:
        """Stores the text that was not reported before the stream was closed, for the next attempt to go on from."""
        rest = self._streams.last_report(stream)
        if rest.text or (stream.streamed and (rest.reasoning or rest.calls)):
            self._retry_while_unavailable(lambda: outside(lambda: self._leases.progress([rest])))

    def _settle_failed(self, work: Assignment, error: ModelError, stream: Stream) -> _Settled:
        delay = retry_delay(work, error, max_attempts=self._max_attempts, loading_timeout=self._loading_timeout)
        loading = isinstance(error, ModelLoading)
        if not error.clients_fault:
            self._counts.add(MODEL_ERRORS, error.kind)
        traces.failed(error.kind)
        if self._ends_there(work, stream, again=delay is not None):
            # Events were sent with the text, which stays.
            logger.log(_level(error), "the reply ends at %d characters: %s", len(stream.text), error)
            return self._commit(work, "interrupted", stream)
        if delay is None:
            logger.log(_level(error), "the model gave no reply, not retrying: %s", error)
            following = self._settle("fail", lambda: self._leases.fail(work, error.public, go_on=not self.draining))
            self._counts.add(REPLIES, "refused" if error.clients_fault else "failed")
            return _Settled(following, failed=not error.clients_fault)
        logger.warning("the model gave no reply, retrying in %.1f s: %s", delay, error)
        self._store_rest(stream)
        self._settle("postpone", lambda: self._leases.postpone(work, delay, loading=loading))
        self._counts.add(RETRIES, "loading" if loading else "error")
        return _Settled(None, retry_in=delay)

    def _ends_there(self, work: Assignment, stream: Stream, *, again: bool) -> bool:
        """Whether what was sent of a reply that failed can only stay as it is, also where it could be tried `again`."""
        if work.options is None:
            return False
        if stream.text:
            return not again or (work.sends_text and not self._requests.continues(work))
        return stream.in_order and not again and bool(stream.reasoning or stream.call_text)

    def _commit(self, work: Assignment, finish_reason: str, stream: Stream | None) -> _Settled:
        """Commits what the stream holds, without one what an attempt before has left."""
        text, reasoning, last_delta = work.partial, work.reasoning, None
        items: Sequence[Mapping[str, Any]] = ended_calls(work.calls, whole=False)
        if stream:
            text, reasoning, last_delta = stream.text, stream.reasoning, stream.last_delta()
            items = stream.calls(finish_reason)
        usage = stream.usage if stream else self._requests.estimated_usage(work) if text or reasoning or items else None
        following = self._settle(
            "commit",
            lambda: self._leases.commit(
                work,
                text,
                finish_reason,
                go_on=not self.draining,
                last_delta=last_delta,
                reasoning=reasoning,
                usage=usage.document() if usage else None,
                items=items,
            ),
        )
        self._counts.add(REPLIES, finish_reason)
        return _Settled(following)

    def _settle(self, name: str, step: Callable[[], T]) -> T:
        """Runs the step that ends an attempt, in a span."""
        with tracing.child(name):
            return self._retry_while_unavailable(step)

    def _retry_while_unavailable(self, step: Callable[[], T]) -> T:
        """Runs a step that settles a message, retrying while Redis is unavailable; the fence makes that idempotent."""
        deadline = time.monotonic() + _SETTLE_TIMEOUT
        delay = _FIRST_SETTLE_DELAY
        while True:
            try:
                return step()
            except DamagedSession:
                raise
            except StoreUnavailable as error:
                self._counts.add(WORKER_REDIS_ERRORS)
                if time.monotonic() >= deadline:
                    raise
                logger.warning("Redis is unavailable, retrying in %.1f s: %s", delay, error)
            outside(partial(time.sleep, delay))
            delay = min(delay * 2, _LONGEST_SETTLE_DELAY)


def _level(error: ModelError) -> int:
    """The level of the line about a failure: a client's fault is none of the deployment's."""
    return logging.INFO if error.clients_fault else logging.ERROR
