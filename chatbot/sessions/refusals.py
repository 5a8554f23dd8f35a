"""What a client gets when a script refuses a step."""

from __future__ import annotations

from chatbot.errors import StoreUnavailable
from chatbot.protocol.client_errors import ClientError, RateLimited, SessionNotFound
from chatbot.sessions.queue_delay import retry_after

_ABSENT = "This chat does not have the message (yet, or any longer): load the chat again"
#: The texts for a frame that names a message which is not there, or is of the wrong kind.
_NOT_FOUND = {
    "unknown": _ABSENT,
    "not_a_reply": "Only a reply takes feedback, and this is none",
    "not_editable": "Only a message of the user can be edited: ask for another reply instead",
}
_NOT_RETRYABLE = {
    "not_retryable": "Only a message whose reply failed can be retried",
    "nothing_to_retry": _ABSENT,
}


def refusal(status: str, max_queue_age: float, message_id: str | None, *rest: int) -> ClientError:
    """The error for a client, from the answer of a script: its status, and for some the milliseconds to wait."""
    if status == "gone":
        return SessionNotFound()
    if status == "limited":
        return RateLimited(rest[0] / 1000, message_id)
    if status == "behind":
        wait = retry_after(rest[0] / 1000, max_queue_age)
        return RateLimited(wait, message_id, "The chat is overloaded: send this again later")
    if status == "full":
        return ClientError(
            "too_many_pending",
            "Too many messages wait for their replies: wait for one, then send this again",
            status=429,
            message_id=message_id,
            retry_after=1.0,
        )
    if status == "busy":
        return ClientError(
            "busy",
            "A reply is being written: wait for it or stop it, then send this again",
            status=409,
            message_id=message_id,
        )
    if status in _NOT_FOUND:
        return ClientError("message_not_found", _NOT_FOUND[status], status=404, message_id=message_id)
    if status == "not_yours":
        return ClientError("invalid_id", "This id is taken: choose another", message_id=message_id)
    if status in _NOT_RETRYABLE:
        return ClientError("not_retryable", _NOT_RETRYABLE[status], status=409, message_id=message_id)
    if status == "nothing":
        return ClientError("nothing_to_stop", "No reply is being generated", status=409)
    if status == "stale":
        raise StoreUnavailable("the reservation of the API key is too old: this process stood still")
    raise StoreUnavailable(f"a script answered {status!r}")
