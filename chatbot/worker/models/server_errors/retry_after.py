"""How long a model server asks to wait: in headers, in the error document, or in the error's text."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

#: Seconds; a server that asks for a longer wait is not believed.
_MAX_WAIT = 86400
#: A number beyond this many seconds is a time, in epoch seconds or milliseconds: 2001, and far beyond any wait.
_EPOCH = 1_000_000_000
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])", re.ASCII)
#: "Please try again in 4.77s", "Please retry after 59 seconds".
_IN_TEXT = re.compile(
    r"(?:try again|retry|wait|resets?)\b[^.\d]{0,30}?"
    r"((?:\d+(?:\.\d+)?(?:ms|[smhd])(?![a-z]))+|\d+(?:\.\d+)?)"
    r"\s*(millisecond|second|minute|hour|ms\b|s\b)?",
    re.IGNORECASE,
)
_WORDS = {"millisecond": 0.001, "ms": 0.001, "second": 1.0, "s": 1.0, "minute": 60.0, "hour": 3600.0}
#: Headers with the time at which a limit is lifted, and those with what is left of the same limit.
_RESETS = (
    ("x-ratelimit-reset-requests", "x-ratelimit-remaining-requests"),
    ("x-ratelimit-reset-tokens", "x-ratelimit-remaining-tokens"),
    ("anthropic-ratelimit-requests-reset", "anthropic-ratelimit-requests-remaining"),
    ("anthropic-ratelimit-tokens-reset", "anthropic-ratelimit-tokens-remaining"),
    ("anthropic-ratelimit-input-tokens-reset", "anthropic-ratelimit-input-tokens-remaining"),
    ("x-ratelimit-reset-after", "x-ratelimit-remaining"),
    ("x-ratelimit-reset", "x-ratelimit-remaining"),
    ("ratelimit-reset", "ratelimit-remaining"),
)


def wait_in_headers(headers: Mapping[str, str]) -> float | None:
    """Seconds; `Retry-After` and its kin come before the times at which limits are lifted."""
    lower = {name.lower(): value for name, value in headers.items() if isinstance(value, str)}
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if (wait := _seconds(lower.get(name, ""), 0.001)) is not None:
            return wait
    if (wait := _seconds(lower.get("retry-after", ""))) is not None:
        return wait
    resets = [(_seconds(lower.get(reset, "")), lower.get(left, "").strip()) for reset, left in _RESETS]
    known = [(wait, left) for wait, left in resets if wait]
    used_up = [wait for wait, left in known if left in ("", "0", "0.0") or left.startswith("-")]
    return max(used_up or [wait for wait, _ in known], default=None)


def wait_in_error(details: Iterable[dict[str, Any]], text: str) -> float | None:
    """Seconds; Gemini writes `retryDelay`, OpenRouter its provider's headers, others only a sentence."""
    for fields in details:
        for name in ("retryDelay", "retry_after", "retry_after_seconds", "retryAfter"):
            if (wait := _seconds(str(fields.get(name, "")))) is not None:
                return wait
        if isinstance(fields.get("headers"), dict) and (wait := wait_in_headers(fields["headers"])) is not None:
            return wait
    found = _IN_TEXT.search(text)
    if found is None:
        return None
    wait = _seconds(found[1], _WORDS.get((found[2] or "").lower(), 1.0))
    return wait if found[2] or not found[1].replace(".", "").isdecimal() else None


def _seconds(value: str, unit: float = 1.0) -> float | None:
    """A number, a duration such as `6m0s`, or a time; None for what is unreadable or not to be believed."""
    value = value.strip()
    try:
        if _DURATION.fullmatch(value):
            seconds = sum(float(number) * _UNITS[name] for number, name in _PART.findall(value))
        elif value[:1].isdigit() and "-" not in value:
            seconds = float(value) * unit
            if seconds > _EPOCH * 100:
                seconds /= 1000
            if seconds > _EPOCH:
                seconds -= time.time()
        elif value[:1].isdigit():
            seconds = datetime.fromisoformat(value).timestamp() - time.time()
        else:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError, TypeError):
        # Absent or unreadable: the worker's own backoff serves.
        return None
    return seconds if 0 <= seconds < _MAX_WAIT else None
