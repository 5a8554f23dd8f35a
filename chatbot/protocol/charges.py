"""What a request with an API key has used, as the step that settles it reports it to the key's usage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

#: How a charge ends. `released`: the request was not accepted, or its session ended before the reply began. `ended`:
#: the session ended in the middle of the reply. `reserved`: the usage is unknown, so that the reserved tokens count.
Outcome = Literal["replied", "failed", "ended", "reserved", "released"]

#: The tokens that a charge reports, in their order.
_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens")


def charged(outcome: Outcome, usage: Mapping[str, Any] | None = None) -> str:
    """The usage of a charge in the outbox, `OUTCOME:PROMPT:COMPLETION:CACHED`, from the `usage` of a stored reply."""
    return ":".join((outcome, *(str(int((usage or {}).get(name, 0))) for name in _TOKENS)))


def parse_charged(text: str) -> dict[str, str]:
    """The outcome and the tokens of a charge in the outbox, by name."""
    return dict(zip(("outcome", *_TOKENS), text.split(":"), strict=True))
