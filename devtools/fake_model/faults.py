"""The faults that can be ordered by name."""

from __future__ import annotations

from typing import Any

JSON, SSE = "application/json", "text/event-stream"
HTML = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
TOO_LONG = "Input validation error: `inputs` must have less than 1024 tokens. Given: 4096"
CRASHED = "Request failed during generation: Server error: CUDA out of memory"

# Whole answers, in the shape of the request's protocol.
ERRORS: dict[str, tuple[int, dict[str, Any]]] = {
    "rate_limited": (429, {"error": "Rate limit reached. Please log in or use a HF access token"}),
    "unauthorized": (401, {"error": "Invalid username or password."}),
    "bad_request": (400, {"error": "Authorization header is correct, but the token seems invalid"}),
    "credits": (402, {"error": "You have exceeded your monthly included credits for Inference Providers."}),
    "invalid": (422, {"error": TOO_LONG, "error_type": "validation"}),
    "failed_dependency": (424, {"error": CRASHED, "error_type": "generation"}),
    "server_error": (500, {"error": "Incomplete generation", "error_type": "incomplete_generation"}),
}
# Whole answers that are the same for every protocol.
PAGES = {
    "unauthorized_plain": (401, "text/plain", "Unauthorized"),
    "html": (502, "text/html", HTML),
    "html_200": (200, "text/html", HTML),
    "empty_list": (200, JSON, "[]"),
}
LOADING = {"loading": 503, "loading_no_estimate": 503, "loading_200": 200}
WHOLE = frozenset({*ERRORS, *PAGES, *LOADING, "redirect"})

# A stream that begins well. Without streaming, in this order: 424, half a body and a closed connection, half a body
# and silence, half a body presented as complete, and no answer.
IN_STREAM = frozenset({"error_in_stream", "cut_stream", "silent_stream", "broken_json", "endless"})

# Variants of OpenAI's protocol. lax: no [DONE], no finish_reason before the last chunk, the stop text not trimmed.
# strict: 422 for a field that OpenAI's own service does not have.
DIALECTS = frozenset({"lax", "strict"})

FAULTS = WHOLE | IN_STREAM | DIALECTS | {"not_utf8", "silent"}


def as_object(status: int, body: dict[str, Any]) -> dict[str, Any]:
    """The failure in the shape of OpenAI's protocol: ``error`` is an object."""
    error = {"message": body["error"], "type": body.get("error_type"), "param": None, "code": status}
    return {name: value for name, value in body.items() if name != "error_type"} | {"error": error}


class RefusedError(Exception):
    """The request is invalid."""

    def __init__(self, status: int, message: str, error_type: str = "validation") -> None:
        super().__init__(message)
        self.status, self.error_type = status, error_type
