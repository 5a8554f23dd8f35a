"""How many tokens a model call took, as the server reports it.

Known shapes: `usage` of the OpenAI protocols, with details, and DeepSeek's and Groq's own names; in the last event of
responses; `timings` of llama.cpp; `details` of text-generation-inference; the counts of Ollama's own protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one reply. `cached` ones of the prompt were not read again; thinking counts as `completion`.

    None stands for what the server did not report.
    """

    prompt: int | None = None
    cached: int | None = None
    completion: int | None = None
    #: The server reported nothing, or not to the end: the numbers are this side's estimate.
    estimated: bool = False

    def document(self) -> dict[str, Any]:
        """The stored form, with 0 for what is not known."""
        counts: dict[str, Any] = {
            "prompt_tokens": self.prompt or 0,
            "cached_tokens": self.cached or 0,
            "completion_tokens": self.completion or 0,
        }
        return {**counts, "estimated": True} if self.estimated else counts


def usage_of(document: Mapping[str, Any], known: Usage | None) -> Usage | None:
    """What is known of the usage after this object of an answer. Later reports win, as some servers report often."""
    if all(document[name] is None for name in _REPORTS.intersection(document)):
        return known
    found = None
    for reader, name in _READERS:
        value = document.get(name)
        if isinstance(value, dict):
            found = _joined(reader(value), found)
    if "eval_count" in document or "prompt_eval_count" in document:
        found = _joined(Usage(_count(document, "prompt_eval_count"), None, _count(document, "eval_count")), found)
    return known if found is None else _joined(found, known)


def _openai(usage: Mapping[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = _count(details, "cached_tokens") if isinstance(details, dict) else None
    return Usage(
        _count(usage, "prompt_tokens", "input_tokens"),
        _count(usage, "prompt_cache_hit_tokens") if cached is None else cached,
        _count(usage, "completion_tokens", "output_tokens"),
    )


def _nested(extension: Mapping[str, Any]) -> Usage:
    usage = extension.get("usage")
    return _openai(usage) if isinstance(usage, dict) else Usage()


def _llama_cpp(timings: Mapping[str, Any]) -> Usage:
    read, cached = _count(timings, "prompt_n"), _count(timings, "cache_n")
    return Usage(
        None if read is None else read + (cached or 0),
        cached,
        _count(timings, "predicted_n"),
    )


def _text_generation(details: Mapping[str, Any]) -> Usage:
    prefill = details.get("prefill")
    prompt = _count(details, "input_length", "prompt_tokens")
    if prompt is None and isinstance(prefill, list) and prefill:
        prompt = len(prefill)
    return Usage(prompt, None, _count(details, "generated_tokens"))


#: In the order of trust: what stands later wins.
_READERS = (
    (_llama_cpp, "timings"),
    (_text_generation, "details"),
    (_nested, "x_groq"),
    (_nested, "response"),
    (_openai, "usage"),
)


#: The fields that hold reports: of most objects of an answer none is set.
_REPORTS = frozenset({*(name for _, name in _READERS), "eval_count", "prompt_eval_count"})


def _joined(new: Usage, old: Usage | None) -> Usage | None:
    if old is None:
        return None if new == Usage() else new
    return Usage(
        old.prompt if new.prompt is None else new.prompt,
        old.cached if new.cached is None else new.cached,
        old.completion if new.completion is None else new.completion,
    )


def _count(document: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = document.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**31:
            return int(value)
    return None
