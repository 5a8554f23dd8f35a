"""JSON without spaces and escapes, in the form that clients get and Redis stores."""

from __future__ import annotations

import json
from typing import Any

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def to_json(document: Any) -> str:
    """Encodes a document."""
    return _encode(document)
