"""Compaction: the model summarizes a conversation, and one item with the summary stands for it."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import Any

from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.openai.create import parse_create
from chatbot.protocol.openai.failures import request_fault
from chatbot.protocol.openai.items import compaction, message, text_part
from chatbot.protocol.openai.options import require_model
from chatbot.protocol.openai.response import usage
from chatbot.web.openai.service import ResponseService
from chatbot.web.openai.serving import wait_for_end

_TASK = (
    "Summarize this conversation, so that it can go on from the summary alone. Keep facts, names, decisions, tasks "
    "and what the user wants. Write the summary and nothing else."
)
_BEFORE = "Summary of the conversation so far:\n"
_NO_TOKENS = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


def compact(document: dict[str, Any], steps: ResponseService) -> dict[str, Any]:
    """The `response.compaction` object for the body of `POST /v1/responses/compact`. Raises `ClientError`."""
    require_model(document)
    known_fields = ("model", "input", "previous_response_id", "instructions", "prompt_cache_key")
    given = {name: document[name] for name in known_fields if name in document}
    if given.get("input") is None:
        given["input"] = []
    task = message("user", [text_part("user", _TASK)])
    if not given["input"] and given.get("previous_response_id"):
        asked = replace(parse_create({**given, "input": _TASK}), store=False)
    else:
        asked = parse_create(given)
        asked = replace(asked, items=[*asked.items, task], store=False)
    created = steps.create(asked)
    try:
        with steps.follow_new(created) as follower:
            view = wait_for_end(follower)
    finally:
        steps.end(created.known)
    if (fault := request_fault(view.failure, "input")) is not None:
        raise fault
    if view.status == "failed" or not view.text:
        raise ClientError("server_error", view.failure or "The model wrote no summary: send this again", status=502)
    counted = usage(view.reply) or {
        **_NO_TOKENS,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    return {
        "id": f"cmp_{uuid.uuid4().hex}",
        "object": "response.compaction",
        "created_at": int(time.time()),
        "output": [compaction(_BEFORE + view.text, f"cmp_{view.reply_id}")],
        "usage": counted,
    }
