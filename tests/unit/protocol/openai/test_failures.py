"""Failures that are the request's own fault are 400s of OpenAI's interfaces; all others are the server's."""

from __future__ import annotations

from typing import get_args

import pytest

from chatbot.protocol.openai.failures import request_fault
from chatbot.telemetry.counters import ModelErrorKind
from chatbot.worker.models.errors import (
    ContentRefused,
    ModelError,
    ModelUnavailable,
    NotSupported,
    PermanentModelError,
    PromptTooLong,
    RequestRefused,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PromptTooLong("too_long", ""), "context_length_exceeded"),
        (NotSupported("refused", ""), "unsupported_value"),
        (ContentRefused("content_filter", ""), "content_filter"),
        (RequestRefused("refused", ""), "invalid_prompt"),
    ],
)
def test_what_the_model_refuses_is_the_requests_fault(error: ModelError, code: str) -> None:
    fault = request_fault(error.public, "messages")
    assert fault is not None
    assert (fault.code, fault.status, fault.param) == (code, 400, "messages")


@pytest.mark.parametrize("kind", get_args(ModelErrorKind))
def test_no_other_failure_is(kind: ModelErrorKind) -> None:
    for error in (PermanentModelError(kind, ""), ModelUnavailable(kind, "")):
        assert request_fault(error.public, "messages") is None
