"""Failures of a reply that are the request's own fault, as clients of OpenAI's interfaces get them.

A failure is stored and published as the sentence that is shown to the user, so it is known by this sentence.
"""

from __future__ import annotations

from chatbot.protocol.client_errors import ClientError

TOO_LONG = "This message is too long for the model."
NOT_SUPPORTED = "The model does not support the images or the tools of this request."
CONTENT = "The model's content filter refused this message. You can change the message and try again."
REFUSED = "The model's server refused this message. You can change the message and try again."

#: Code and text by the sentence. Source of the codes: the errors of OpenAI's own service.
_FAULTS = {
    TOO_LONG: (
        "context_length_exceeded",
        "The conversation is longer than the model, or this server's limit for a prompt, allows: shorten it",
    ),
    NOT_SUPPORTED: ("unsupported_value", NOT_SUPPORTED),
    CONTENT: ("content_filter", CONTENT),
    REFUSED: ("invalid_prompt", REFUSED),
}


def reason(failure: str) -> str | None:
    """The code of a failure that every repetition of the request would have; None for others."""
    fault = _FAULTS.get(failure)
    return None if fault is None else fault[0]


def request_fault(failure: str | None, param: str) -> ClientError | None:
    """The error with status 400 for a failure that every repetition of the request would have; None for others.

    `param` is the field that holds the conversation.
    """
    fault = _FAULTS.get(failure or "")
    return None if fault is None else ClientError(*fault, param=param)
