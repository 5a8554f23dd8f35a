"""Answering what is unanswered in a session, one message after the other. Knows nothing of Celery."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

from chatbot.config import Settings
from chatbot.errors import StoreUnavailable
from chatbot.logs import bound
from chatbot.sessions.leases import Assignment, LeaseLost, Leases
from chatbot.telemetry.counters import (
    FIRST_TOKEN,
    MODEL_ERRORS,
    PIECES,
    REPLIES,
    REPLY_TIME,
    RETRIES,
    TAKEOVERS,
    WORKER_REDIS_ERRORS,
    Counts,
)
from chatbot.worker.models.base import Call, Model, Piece, Pieces
from chatbot.worker.models.errors import (
    CallCancelled,
    ModelError,
    ModelLoading,
    PermanentModelError,
    PromptTooLong,
    TransientModelError,
)
from chatbot.worker.prompts import estimated_tokens, fit, prompt_messages
from chatbot.worker.streams import Stream, Streams

logger = logging.getLogger(__name__)

#: Seconds before the second attempt; doubled for each further one, up to the longest.
_FIRST_BACKOFF = 1.0
_LONGEST_BACKOFF = 30.0
#: Seconds between questions whether the model is loaded, when the server does not say how long it takes.
_LOADING_BACKOFF = 5.0
#: Seconds that a finished reply is kept at hand for a Redis that is away: about a restart's length.
_STORE_PATIENCE = 60.0
#: Characters of a reply. What is longer comes from a server that knows no end and no MAX_NEW_TOKENS.
#: As UTF-8 it still fits into the outbox of a socket, which holds it whole when a client comes back.
MAX_REPLY_LENGTH = 200_000

T = TypeVar("T")


class Replies:
    """The worker's part in the promise: whatever happens here, every message that was taken on is answered, has its
    failure recorded, or is left in the ledger for another worker."""

    def __init__(self, leases: Leases, streams: Streams, model: Model, settings: Settings, counts: Counts) -> None:
        self._leases = leases
        self._streams = streams
        self._model = model
        self._counts = counts
        instructions = estimated_tokens(settings.model.system_prompt) if settings.model.system_prompt else 0
        self._max_prompt_tokens = settings.model.max_prompt_tokens - instructions
        self._timeout = settings.model.timeout
        self._attempts = settings.model.attempts
        self._loading_timeout = settings.model.loading_timeout
        #: Set when the worker is told to end: no further message is begun.
        self.draining = False

    def answer(self, session: str) -> int:
        """Answers the session's unanswered messages until none is left; how many were settled.

        None, when somebody else is at it. Raises `StoreUnavailable`; the ledger knows of what is left then.
        """
        settled = 0
        if self.draining:
            return settled
        work = self._leases.claim(session)
        while work is not None:
            with bound(session=session, message_id=work.message_id):
                try:
                    work = self._answer(work)
                except LeaseLost:
                    self._counts.add(TAKEOVERS)
                    logger.info("another worker has taken over")
                    return settled
            settled += 1
        return settled

    def _answer(self, work: Assignment) -> Assignment | None:
        """Settles one message; the next one, if there is any."""
        if work.stopped:
            return self._commit(work, "", "stopped")
        call = Call(self._timeout)
        stream = self._streams.open(work, call)
        try:
            try:
                finish_reason = self._generate(work, call, stream)
            finally:
                self._streams.close(stream)
        except CallCancelled as cancelled:
            return self._cancelled(work, stream, cancelled.reason)
        except ModelError as error:
            return self._failed(work, error)
        except Exception:
            # A bug must not leave the message hanging, nor be retried for ever.
            logger.exception("generating a reply failed")
            return self._failed(work, PermanentModelError("internal", "see the traceback above"))
        return self._commit(work, stream.text, finish_reason, stream)

    def _generate(self, work: Assignment, call: Call, stream: Stream) -> str:
        """Streams the reply into `stream`; why it ended."""
        began = time.monotonic()
        first: float | None = None
        finish_reason = "stop"
        said = 0
        try:
            with closing(self._pieces(work, call, stream)) as pieces:
                for piece in pieces:
                    stream.add(piece.text[: MAX_REPLY_LENGTH - len(stream.text)])
                    said += bool(piece.text)
                    if first is None and stream.text:
                        first = time.monotonic() - began
                        self._counts.observe(FIRST_TOKEN, first)
                    finish_reason = piece.finish_reason or finish_reason
                    if len(stream.text) >= MAX_REPLY_LENGTH:
                        logger.warning("the reply does not end and is cut at %d characters", len(stream.text))
                        finish_reason = "length"
                        break
        finally:
            self._counts.add(PIECES, amount=said)
        took = time.monotonic() - began
        self._counts.observe(REPLY_TIME, took)
        logger.info(
            "replied with %d characters in %.3f s, the first after %.3f s (%s)",
            len(stream.text),
            took,
            first or 0.0,
            finish_reason,
        )
        return finish_reason

    def _pieces(self, work: Assignment, call: Call, stream: Stream) -> Pieces:
        """The reply; asked for with less of the history where the estimate of the prompt's length was too low."""
        conversation = fit(prompt_messages(work.messages), self._max_prompt_tokens)
        while True:
            try:
                yield from self._model.generate(conversation, call)
                return
            except PromptTooLong as error:
                if stream.text:
                    # Prompt and reply together have reached the context's end.
                    logger.warning("the reply is cut at %d characters: %s", len(stream.text), error)
                    yield Piece("", "length")
                    return
                if len(conversation) == 1:
                    raise
                conversation = conversation[(len(conversation) + 1) // 2 :]
                logger.warning("asking again with the last %d messages: %s", len(conversation), error)

    def _cancelled(self, work: Assignment, stream: Stream, reason: str) -> Assignment | None:
        if reason == "lease" or stream.lost:
            raise LeaseLost(work.session)
        if reason == "stop":
            return self._commit(work, stream.text, "stopped", stream)
        if reason == "shutdown":
            logger.info("handing the message back: this worker ends")
            self._insist(lambda: self._leases.hand_back(work))
            return None
        if stream.text:
            logger.warning("the reply took longer than MODEL_TIMEOUT and is cut at %d characters", len(stream.text))
            return self._commit(work, stream.text, "length", stream)
        return self._failed(work, TransientModelError("timeout", f"no reply within {self._timeout:g} s"))

    def _failed(self, work: Assignment, error: ModelError) -> Assignment | None:
        delay = self._delay(work, error)
        loading = isinstance(error, ModelLoading)
        self._counts.add(MODEL_ERRORS, error.kind)
        if delay is None:
            logger.error("the model gave no reply, for good: %s", error)
            following = self._insist(lambda: self._leases.fail(work, error.public, go_on=not self.draining))
            self._counts.add(REPLIES, "failed")
            return following
        logger.warning("the model gave no reply, again in %.1f s: %s", delay, error)
        self._insist(lambda: self._leases.postpone(work, delay, loading=loading))
        self._counts.add(RETRIES, "loading" if loading else "error")
        return None

    def _delay(self, work: Assignment, error: ModelError) -> float | None:
        """Seconds until the next attempt; None when there is to be none."""
        if not isinstance(error, TransientModelError):
            return None
        asked = error.retry_after
        if isinstance(error, ModelLoading):
            if work.loading_for >= self._loading_timeout:
                return None
            wait = _LOADING_BACKOFF if asked is None else asked
            return float(min(max(wait, 0.2), _LONGEST_BACKOFF))
        if work.attempts + 1 >= self._attempts:
            return None
        if asked is not None and asked > self._loading_timeout:
            return None
        backoff = min(_FIRST_BACKOFF * 2**work.attempts, _LONGEST_BACKOFF) * random.uniform(0.8, 1.2)
        return float(max(backoff, asked or 0.0))

    def _commit(
        self, work: Assignment, text: str, finish_reason: str, stream: Stream | None = None
    ) -> Assignment | None:
        last_delta = stream.last_delta() if stream else None
        following = self._insist(
            lambda: self._leases.commit(work, text, finish_reason, go_on=not self.draining, last_delta=last_delta)
        )
        self._counts.add(REPLIES, finish_reason)
        return following

    def _insist(self, step: Callable[[], T]) -> T:
        """Does what ends a message, again and again while Redis is away: the fence keeps that harmless."""
        give_up = time.monotonic() + _STORE_PATIENCE
        delay = 0.1
        while True:
            try:
                return step()
            except StoreUnavailable as error:
                self._counts.add(WORKER_REDIS_ERRORS)
                if time.monotonic() >= give_up:
                    raise
                logger.warning("Redis is away, trying again in %.1f s: %s", delay, error)
            time.sleep(delay)
            delay = min(delay * 2, 1.0)
