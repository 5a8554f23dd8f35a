"""What one JSON object of an answer says, in all protocols: text, thinking, and why the reply ended.

Known shapes: the choices of both OpenAI protocols, streamed (`delta`, `text`) and whole (`message`); the tokens and the
`generated_text` of text-generation-inference; the lines of Ollama's own protocol (`message`, `response`, `done`);
responses of OpenAI, whole and as events (response_events.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from chatbot.worker.models.answers.response_events import (
    delta_of,
    done_text,
    ended_response,
    is_response,
    output_items,
    reasoning_of,
    unnamed_end,
)
from chatbot.worker.models.errors import ContentRefused, TransientModelError
from chatbot.worker.models.server_errors.documents import describes_failure
from chatbot.worker.models.server_errors.http_errors import raise_for_error

#: Finish reasons by their words, in any spelling (MAX_TOKENS, maxTokens, max-tokens), tried in this order; others are
#: `stop`. The first are Cohere's, whose words would fit two rows.
_REASONS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("content_filter", re.compile("errortoxic")),
    ("length", re.compile("errorlimit")),
    (
        "content_filter",
        re.compile(
            "contentfilter|safety|recitation|blocklist|blocked|prohibited|spii|refusal|guardrail|sensitive|moderation"
            "|policy|toxic|harmful|^language$"
        ),
    ),
    (
        "failed",
        re.compile(
            "error|abort|cancel|fail|exception|timeout|timedout|overload|insufficient|unavailable|ratelimit|outofmemory"
            "|^oom$|interrupt|disconnect|shutdown|preempt|malformed|unexpected|kill|crash|deadline|evict|internal|rejected"
            "|dropped|dead$|died|(connection|upstream|stream|client)(was)?(lost|closed|reset)"
        ),
    ),
    ("length", re.compile("length|max(new|output|completion)?tokens?|maxoutput|token(limit|budget)|manytokens")),
    (
        "length",
        re.compile("context(window|size|limit|overflow)|limit$|cachefull|truncat|cutoff|maxsteps|numpredict|budget"),
    ),
)
#: Fields of objects beside the parts of an answer: statistics, results of filters, heads without a choice.
_NEUTRAL = frozenset(("choices", "usage", "timings", "object", "id", "model", "prompt_filter_results", "response"))
#: Fields of the objects that `plain_text` knows.
_TOKEN = frozenset(("index", "token", "generated_text", "details", "top_tokens"))
_CHOICES = frozenset(("id", "object", "created", "model", "choices", "system_fingerprint", "usage"))
_CHOICE = frozenset(("index", "delta", "finish_reason", "logprobs"))
_NOT_YET = frozenset(("null", "none", "unfinished", "notfinished", "unspecified", "incomplete", "inprogress"))
#: Fields with what the model thinks, of a message and of a part of one.
_THOUGHTS = (
    "reasoning_content",
    "reasoning",
    "thinking",
    "reasoning_details",
    "reasoning_text",
    "thinking_blocks",
    "thought",
)
_INNER = ("thinking", "reasoning", "text", "summary", "reasoning_content")
_PREFIX = re.compile("^finish_?reason", re.IGNORECASE)
_NO_LETTER = re.compile("[^a-z]+")


class Part(NamedTuple):
    """A part of an answer."""

    text: str = ""
    reasoning: str = ""
    #: `stop`, `length` or `content_filter`, or None.
    reason: str | None = None
    #: The text is the complete reply, which may repeat what was streamed.
    whole: bool = False
    #: Whether a reply ends with this part, also without a reason.
    last: bool = False
    #: Tokens that this part stands for, where the protocol counts them.
    tokens: int = 0


def part_of(document: Mapping[str, Any]) -> Part | None:
    """The part that the object holds, or None for one without: usage statistics, a filter's results of the prompt.

    Raises `ModelError` for an error in it.
    """
    raise_for_error(document)
    choice = first_choice(document)
    if choice is not None:
        extension = document.get("x_groq")
        if isinstance(extension, dict):
            raise_for_error(extension)
        return _choice(choice)
    if "token" in document or "generated_text" in document:
        return _token(document)
    if isinstance(document.get("done"), bool):
        return _ollama(document)
    if is_response(document):
        return _response(document)
    feedback = document.get("promptFeedback") or document.get("prompt_feedback")
    if isinstance(feedback, dict) and (feedback.get("blockReason") or feedback.get("block_reason")):
        raise ContentRefused("content_filter", "the server's content filter blocks the prompt")
    if describes_failure(document):
        raise_for_error(document, failed=True)
    return None


def plain_text(document: Mapping[str, Any]) -> str | None:
    """The text of an object that holds nothing else, as most do: of a token of text-generation-inference, or of a
    streamed choice. None for another object."""
    token = document.get("token")
    if type(token) is dict:
        if document.keys() <= _TOKEN and document.get("generated_text") is None and document.get("details") is None:
            text = token.get("text")
            return text if type(text) is str and not token.get("special") else None
        return None
    choices = document.get("choices")
    if type(choices) is not list or len(choices) != 1 or not document.keys() <= _CHOICES or document.get("usage"):
        return None
    if document.get("object") not in (None, "chat.completion.chunk"):
        return None
    choice = choices[0]
    if type(choice) is not dict or not choice.keys() <= _CHOICE or choice.get("finish_reason") is not None:
        return None
    delta = choice.get("delta")
    if choice.get("index") not in (None, 0) or type(delta) is not dict or len(delta) != 1:
        return None
    text = delta.get("content")
    return text if type(text) is str else None


def is_neutral(document: Mapping[str, Any]) -> bool:
    """Whether an object without a part of the answer is known to stand in whole answers."""
    return not _NEUTRAL.isdisjoint(document) or document.get("type") in ("ping", "heartbeat", "keepalive")


def first_choice(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """The choice that the reply is made of, or None: requests ask for one, and some servers send others beside it."""
    choices = document.get("choices")
    for choice in choices if isinstance(choices, list) else (choices,):
        if isinstance(choice, dict) and choice.get("index") in (None, 0, "0"):
            return choice
    return None


def finish_reason(value: Any) -> str | None:
    """`stop`, `length` or `content_filter` for a server's reason, None for none. Raises `ModelError`."""
    described = value if isinstance(value, dict) else {}
    if described:
        value = described.get("type") or described.get("reason")
    if not isinstance(value, str) or not value.strip():
        return None
    name = _NO_LETTER.sub("", _PREFIX.sub("", value.strip()).lower())
    if name in _NOT_YET:
        return None
    reason = next((reason for reason, words in _REASONS if words.search(name)), "stop")
    if reason == "failed":
        if described.get("message"):
            # SGLang describes the error there.
            raise_for_error({"error": described}, failed=True)
        raise TransientModelError("generation", "the answer's finish reason is an error")
    return reason


def _choice(choice: dict[str, Any]) -> Part:
    if choice.get("error"):
        raise_for_error({"error": choice["error"]}, failed=True)
    delta, message = choice.get("delta"), choice.get("message")
    streamed = isinstance(delta, (dict, str)) and bool(delta)
    said = delta if streamed else message if isinstance(message, (dict, str)) else choice
    text, reasoning = _said(said if isinstance(said, dict) else {"content": said})
    if not text and streamed:
        # Cohere has a message within the delta.
        inner = said.get("message") if isinstance(said, dict) else None
        text = _said(inner)[0] if isinstance(inner, dict) else _text(choice.get("text"))
    whole = not streamed and isinstance(message, (dict, str))
    reason = choice.get("finish_reason")
    if reason is None:
        reason = choice.get("finishReason") or (choice.get("stop_reason") if "finish_reason" not in choice else None)
    return Part(text, reasoning, finish_reason(reason), whole=whole)


def _response(document: Mapping[str, Any]) -> Part:
    """The part in an event of a response, or in a whole one. Raises `ModelError` for one that failed."""
    text, reasoning = delta_of(document)
    ended = ended_response(document)
    whole = [item for _, item in output_items(document)]
    if ended is None:
        ended = unnamed_end(document)
    if ended is None:
        # Of what was not streamed.
        item = "".join(_said(item)[0] for item in whole if item.get("type") == "message") or done_text(document)
        return Part(item, whole=True) if item else Part(text, reasoning)
    raise_for_error(ended)
    text = "".join(_said(item)[0] for item in whole if item.get("type") == "message") or _text(ended.get("output_text"))
    if not str(document.get("type")).startswith("response."):
        # The last event of a stream repeats what was streamed.
        reasoning = "".join(map(reasoning_of, whole))
    reason = finish_reason(ended.get("status"))
    if ended.get("status") == "incomplete":
        reason = finish_reason(ended.get("incomplete_details")) or "length"
    return Part(text, reasoning, reason, whole=True, last=True)


def _said(message: Mapping[str, Any]) -> tuple[str, str]:
    """The text and the thinking of a message or of a part of one."""
    content = message.get("content")
    text, reasoning = _contents(message.get("text") if content is None else content)
    text += _text(message.get("refusal"))
    for name in _THOUGHTS:
        # Some servers send the same under two names.
        if not reasoning and (value := message.get(name)):
            reasoning = "".join(_contents(value))
    return text, reasoning


def _contents(content: Any) -> tuple[str, str]:
    """Text and thinking of `content`: a text, or a list of parts."""
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        return _text(content), ""
    text = reasoning = ""
    for part in content:
        if not isinstance(part, dict):
            text += _text(part)
        elif str(part.get("type")).startswith(("thinking", "reasoning")):
            reasoning += next((_contents(part[name])[0] for name in _INNER if part.get(name)), "")
        elif part.get("type") == "refusal":
            text += _text(part.get("refusal"))
        elif (thought := part.get("reasoningContent")) is not None:
            reasoning += _contents(thought)[0]
        else:
            value = part.get("text", part.get("content", part.get("reasoningText")))
            text += _text(value.get("value", value.get("text")) if isinstance(value, dict) else value)
    return text, reasoning


def _token(document: Mapping[str, Any]) -> Part:
    details = document.get("details")
    token = document.get("token")
    if details is None and document.get("generated_text") is None and isinstance(token, dict):
        text = token.get("text")
        if type(text) is str and not token.get("special"):
            return Part(text, tokens=1)
    reason = finish_reason(details.get("finish_reason")) if isinstance(details, dict) else None
    whole = document.get("generated_text")
    last = isinstance(whole, (str, int, float))
    tokens = int(isinstance(token, dict))
    if isinstance(token, dict) and (text := _text(token.get("text"))) and not token.get("special"):
        return Part(text, reason=reason, last=last, tokens=tokens)
    return Part(_text(whole), reason=reason, whole=True, last=last, tokens=tokens)


def _ollama(document: Mapping[str, Any]) -> Part:
    message = document.get("message")
    text, reasoning = _said(message) if isinstance(message, dict) else (_text(document.get("response")), "")
    reasoning = reasoning or _text(document.get("thinking"))
    reason = (finish_reason(document.get("done_reason")) or "stop") if document["done"] else None
    return Part(text, reasoning, reason)


def _text(value: Any) -> str:
    """A text; a number, which some servers write in its place, as a text."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""
