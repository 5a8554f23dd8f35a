"""What marshmallow finds wrong, in words that follow the name of the field in a sentence."""

from __future__ import annotations

import re
from typing import Any

from marshmallow import ValidationError

#: The beginnings of marshmallow's own messages, and what is said in their place.
_WORDS = [
    (re.compile(beginning), words)
    for beginning, words in (
        (r"Must be one of: ", "must be one of "),
        (r"M(?=ust )", "m"),
        (r"Length must be ", "must have a length "),
        (r"Longer than maximum length ", "must not be longer than "),
        (r"Shorter than minimum length ", "must not be shorter than "),
        (r"Not a valid mapping type", "must be an object"),
        (r"Not a valid string", "must be a text"),
        (r"Not a valid boolean", "must be true or false"),
        (r"Not a valid (?=integer)", "must be an "),
        (r"Not a valid ", "must be a "),
        (r"Missing data for required field", "is missing"),
        (r"Field may not be null", "must not be null"),
        (r"Special numeric values.*", "must be a finite number"),
        (r"Number too large", "is too large"),
        (r"(Invalid (value|input|type)|String does not match).*", "is not valid"),
    )
]


def first_problem(error: ValidationError) -> str:
    """The first problem of a validation error, without a full stop."""
    messages: Any = error.messages
    while isinstance(messages, (dict, list)):
        messages = next(iter(messages.values() if isinstance(messages, dict) else messages), "is not valid")
    text = str(messages).rstrip(".")
    for beginning, words in _WORDS:
        if beginning.match(text):
            return beginning.sub(words, text, count=1)
    return text
