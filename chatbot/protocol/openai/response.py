"""A response, computed from what is stored of a request: its state, and the `response` object of Open Responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from chatbot.protocol.openai.calls import decode_calls
from chatbot.protocol.openai.failures import request_fault
from chatbot.protocol.openai.items import Item, message, text_part

Status = Literal["queued", "in_progress", "completed", "failed", "incomplete", "cancelled"]

#: The failure that stands for a request which was cancelled while it waited.
CANCELLED = "The response was cancelled."
#: A reply that could not go on where it was: its text ends where it was cut.
INTERRUPTED = "The reply was interrupted and could not be continued. Send the request again."
#: The status of a response by the finish reason of its reply, and the reason of an incomplete one.
_ENDS: dict[str, tuple[Status, str | None]] = {
    "stop": ("completed", None),
    "length": ("incomplete", "max_output_tokens"),
    "content_filter": ("incomplete", "content_filter"),
    "stopped": ("cancelled", None),
    "interrupted": ("failed", None),
}
_DEFAULTS: dict[str, Any] = {
    "instructions": None,
    "tools": [],
    "tool_choice": "auto",
    "truncation": "disabled",
    "parallel_tool_calls": True,
    "text": {"format": {"type": "text"}},
    "top_p": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "top_logprobs": 0,
    "temperature": 1.0,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "background": False,
    "store": True,
    "metadata": {},
    "safety_identifier": None,
    "prompt_cache_key": None,
}


@dataclass(frozen=True)
class View:
    """What is known of a response at one moment."""

    id: str
    previous_response_id: str | None
    #: The stored human message.
    human: Mapping[str, Any]
    #: The id of the reply, stored or to come.
    reply_id: str
    #: The text so far.
    text: str = ""
    #: What the model has thought so far.
    reasoning: str = ""
    #: The function calls so far, see calls.py; those of the stored reply are in it.
    call_text: str = ""
    #: The stored reply.
    reply: Mapping[str, Any] | None = None
    #: The text of the recorded failure.
    failure: str | None = None
    #: Whether a worker has begun.
    begun: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        if self.reply is not None:
            return _ENDS.get(str(self.reply["finish_reason"]), ("completed", None))[0]
        if self.failure is not None:
            return "cancelled" if self.failure == CANCELLED else "failed"
        return "queued" if self.options.get("background") and not self.started else "in_progress"

    @property
    def ended(self) -> bool:
        return self.reply is not None or self.failure is not None

    @property
    def started(self) -> bool:
        """Whether a worker has begun, or has before."""
        return self.begun or self.ended or bool(self.text or self.reasoning or self.call_text)

    @cached_property
    def calls(self) -> Sequence[Mapping[str, Any]]:
        """The function calls of the reply; the last one of a reply that has not ended may be incomplete."""
        found: Sequence[Mapping[str, Any]] = (self.reply or {}).get("items", ())
        return found if self.reply else decode_calls(self.call_text)

    @property
    def incomplete_reason(self) -> str | None:
        return _ENDS.get(str(self.reply["finish_reason"]), (None, None))[1] if self.reply is not None else None

    @property
    def error(self) -> dict[str, str] | None:
        """The error of a failed response."""
        if self.status != "failed":
            return None
        fault = request_fault(self.failure, "input")
        if fault is not None:
            return {"code": fault.code, "message": fault.message}
        return {"code": "server_error", "message": self.failure or INTERRUPTED}

    def output(self) -> list[dict[str, Any]]:
        """The output items: what the model thought, the message if there is text, then the function calls."""
        items = [self.reasoning_item()] if self.reasoning else []
        items += [self.message_item()] if self.text else []
        return [*items, *(self.call_item(number) for number in range(len(self.calls)))]

    def conversation(self) -> list[Item]:
        """What the reply adds to the conversation, as stored items."""
        said = [message("assistant", [text_part("assistant", self.text)])] if self.text else []
        return [*said, *(dict(call) for call in self.calls if call.get("status") != "incomplete")]

    @property
    def item_id(self) -> str:
        """What the ids of the items have in common. It leads to the response, for clients that refer to an item."""
        return self.id.removeprefix("resp_")

    def reasoning_item(self) -> dict[str, Any]:
        """What the model thought, as the summary: clients show that."""
        status = "completed" if self.text or self.calls else self._item_status()
        summary = [{"type": "summary_text", "text": self.reasoning}]
        return {"type": "reasoning", "id": f"rs_{self.item_id}", "status": status, "summary": summary}

    def message_item(self) -> dict[str, Any]:
        return {
            "type": "message",
            "id": f"msg_{self.item_id}",
            "status": "completed" if self.calls else self._item_status(),
            "role": "assistant",
            "content": [text_content(self.text)],
        }

    def call_item(self, number: int) -> dict[str, Any]:
        call = self.calls[number]
        return {
            "type": "function_call",
            "id": f"fc_{self.item_id}_{number}",
            "call_id": call["call_id"],
            "name": call["name"],
            "arguments": call["arguments"],
            "status": call.get("status") or self._call_status(number),
        }

    def _call_status(self, number: int) -> str:
        return "completed" if self.ended or number + 1 < len(self.calls) else "in_progress"

    def _item_status(self) -> str:
        if not self.ended:
            return "in_progress"
        return "completed" if self.status == "completed" else "incomplete"


def text_content(text: str) -> dict[str, Any]:
    """A part with text of the model."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def resource(view: View) -> dict[str, Any]:
    """The `response` object."""
    options = view.options
    reasoning = options.get("reasoning") or {}
    reason = view.incomplete_reason
    return {
        "id": view.id,
        "object": "response",
        "created_at": epoch(view.human["timestamp"]),
        "completed_at": epoch(view.reply["timestamp"]) if view.reply and view.status == "completed" else None,
        "status": view.status,
        "incomplete_details": {"reason": reason} if reason else None,
        "model": options.get("model", ""),
        "previous_response_id": view.previous_response_id,
        "output": view.output(),
        "error": view.error,
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "usage": usage(view.reply),
        "service_tier": "default",
        **{name: options.get(name, default) for name, default in _DEFAULTS.items()},
    }


def usage(reply: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The tokens of a reply; None when they are not known."""
    counted = (reply or {}).get("usage")
    if not counted:
        return None
    asked, generated = counted["prompt_tokens"], counted["completion_tokens"]
    return {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": counted.get("cached_tokens", 0)},
        "output_tokens": generated,
        "output_tokens_details": {"reasoning_tokens": counted.get("reasoning_tokens", 0)},
        "total_tokens": asked + generated,
    }


def epoch(timestamp: str) -> int:
    """Epoch seconds of a stored timestamp."""
    return int(datetime.fromisoformat(timestamp).timestamp())
