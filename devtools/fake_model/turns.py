"""What strict servers and content filters refuse in a prompt."""

from __future__ import annotations

import json
import re
from typing import Any

from devtools.fake_model.faults import RefusedError
from devtools.fake_model.protocols import OpenAIRequest, TextGenerationRequest

LABEL = re.compile(r"^(Human|Bot):", re.MULTILINE)
ROLES = {"Human": "user", "Bot": "assistant"}


def check_turns(ask: TextGenerationRequest | OpenAIRequest) -> None:
    """Refuses what some chat templates and services do: an empty message, and roles that do not alternate up to the
    user's last message. Messages begin with the user's; a prompt of labels may begin with a reply."""
    turns = _messages(ask.messages) if ask.messages is not None else _lines(ask.prompt or "")
    if turns and turns[-1][0] == "assistant":
        # The beginning of the reply, to be continued.
        turns = turns[:-1]
    if not all(text.strip() for _, text in turns):
        raise RefusedError(400, "messages: text content blocks must be non-empty", "invalid_request_error")
    alternating = all(role == ("user", "assistant")[i % 2] for i, (role, _) in enumerate(reversed(turns)))
    begun = ask.messages is None or (turns and turns[0][0] == "user")
    if not (turns and alternating and begun):
        complaint = "Conversation roles must alternate user/assistant/user/assistant/..."
        raise RefusedError(400, complaint, "invalid_request_error")


def check_content(ask: TextGenerationRequest | OpenAIRequest, refused: str) -> None:
    """Refuses a prompt that holds the text `refused` anywhere, as Azure's content filter does."""
    if refused and refused in (json.dumps(ask.messages, ensure_ascii=False) if ask.messages else ask.prompt or ""):
        complaint = "The response was filtered due to the prompt triggering the content management policy"
        raise RefusedError(400, complaint, "content_filter")


def _messages(messages: list[Any]) -> list[tuple[str, str]]:
    return [(str(m.get("role")), str(m.get("content") or "")) for m in messages if m.get("role") != "system"]


def _lines(prompt: str) -> list[tuple[str, str]]:
    """Each labelled message, without the label at the end that the model continues."""
    _, *parts = LABEL.split(prompt)
    turns = [(ROLES[label], text) for label, text in zip(parts[::2], parts[1::2], strict=True)]
    return turns[:-1] if turns and not turns[-1][1].strip() else turns
