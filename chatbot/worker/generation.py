"""One attempt at a reply: takes the chunks that the model gives into a stream, and counts them."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from dataclasses import replace

from chatbot.sessions.leases import Assignment
from chatbot.telemetry.counters import FIRST_TOKEN, PIECES, REPLY_TIME, TOKENS, Counts
from chatbot.worker.model_requests import ModelRequests
from chatbot.worker.models.answers.piece import Piece
from chatbot.worker.models.answers.usage import Usage
from chatbot.worker.models.call import Call
from chatbot.worker.models.protocols.request_options import allowed
from chatbot.worker.stream import Stream

logger = logging.getLogger(__name__)

#: Characters of a reply. A longer one comes from a server that ignores MAX_NEW_TOKENS.
#: As UTF-8 a reply of this length still fits into the outbox of a socket, for a client that reconnects.
MAX_REPLY_LENGTH = 200_000


class Generator:
    """Generates replies with one model."""

    def __init__(self, requests: ModelRequests, counts: Counts) -> None:
        self._requests = requests
        self._counts = counts

    def generate(self, work: Assignment, call: Call, stream: Stream) -> str:
        """Streams the reply into `stream`, with its usage; returns the finish reason.

        Raises `ModelError`, and `CallCancelled` once the call is ended.
        """
        began = time.monotonic()
        finish_reason = "stop"
        chunks = 0
        try:
            with closing(self._requests.pieces(work, call, stream)) as pieces:
                for piece in pieces:
                    chunks += _take(piece, work, stream)
                    if stream.first_after is None and stream.begun:
                        stream.first_after = time.monotonic() - began
                        self._counts.observe(FIRST_TOKEN, stream.first_after)
                    finish_reason = piece.finish_reason or finish_reason
                    if len(stream.text) >= MAX_REPLY_LENGTH:
                        logger.warning(
                            "the reply exceeds the maximum length and is cut at %d characters", len(stream.text)
                        )
                        finish_reason = "length"
                        break
                    if piece.finish_reason is None:
                        # Here, not where the answer is read: switching to another reply copies the stack, of which
                        # the generators that read an answer are most.
                        call.wait_for_more()
        finally:
            self._counts.add(PIECES, amount=chunks)
            self._count_tokens(stream, call.generated)
        stream.took = time.monotonic() - began
        self._counts.observe(REPLY_TIME, stream.took)
        return finish_reason

    def _count_tokens(self, stream: Stream, before: int) -> None:
        """Counts the tokens that the server reported; without a report, estimates those of the stream.

        The reply's usage includes the tokens generated `before`, in earlier attempts.
        """
        reported = stream.usage
        if reported is None or reported.estimated:
            stream.usage = Usage(stream.prompt_tokens, 0, stream.generated, estimated=True)
            return
        stream.server_usage = reported
        # Of the attempts before, the prompts are not known.
        stream.usage = replace(reported, completion=before + (reported.completion or 0), estimated=before > 0)
        self._counts.add(TOKENS, "prompt", reported.prompt or 0)
        self._counts.add(TOKENS, "cached", reported.cached or 0)
        self._counts.add(TOKENS, "completion", reported.completion or 0)


def log_reply(stream: Stream, finish_reason: str) -> None:
    """Logs what a reply took. Called once it is committed: the user does not wait for the line."""
    line = "replied with %d characters in %.3f s, the first after %.3f s (%s); %s"
    first = stream.first_after or 0.0
    logger.info(line, len(stream.text), stream.took, first, finish_reason, _in_words(stream.server_usage))


def _take(piece: Piece, work: Assignment, stream: Stream) -> int:
    """Adds a chunk to the reply; returns how many of the server's it counts for."""
    text, thought = piece.text, piece.reasoning
    if piece.retracts and work.options is not None:
        # Events were sent with the text: it stays text.
        text, thought = thought + text, ""
    elif piece.retracts:
        stream.retract()
    last = piece.finish_reason is not None
    count = piece.chunks if text or thought or (piece.calls and not last) else 0
    stream.generated += count
    stream.add(text[: MAX_REPLY_LENGTH - len(stream.text)], thought)
    stream.usage = piece.usage or stream.usage
    if piece.calls:
        stream.add_calls(allowed(piece.calls, work.options or {}), last=last)
    return count


def _in_words(usage: Usage | None) -> str:
    if usage is None:
        return "the server did not report its tokens"
    return f"tokens: {usage.prompt or 0} of the prompt, {usage.cached or 0} cached; {usage.completion or 0} generated"
