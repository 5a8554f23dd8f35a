"""Which origins may use the chat."""

from __future__ import annotations

import pytest
from flask import Flask, request

from chatbot.web.origins import origin_allowed

FRIEND = "https://friend.example"


@pytest.mark.parametrize(
    ("url", "origin", "allowed"),
    [
        ("http://chat.example", "http://chat.example", True),
        ("http://chat.example", "HTTP://CHAT.example", True),
        ("http://chat.example", "http://chat.example:80", True),
        ("http://chat.example:80", "http://chat.example", True),
        ("http://chat.example:8000", "http://chat.example:8000", True),
        ("http://chat.example:8000", "http://chat.example", False),
        ("http://chat.example", "http://chat.example:8000", False),
        ("http://chat.example", "http://sub.chat.example", False),
        ("http://chat.example", "http://chat.example.evil.example", False),
        ("http://chat.example", "http://evil.example/http://chat.example", False),
        ("http://chat.example", "http://chat.example@evil.example", False),
        ("http://chat.example", "ftp://chat.example", False),
        ("http://chat.example", "chat.example", False),
        ("http://chat.example", "null", False),
        ("http://chat.example", "", False),
        ("http://chat.example", "http://[::", False),
        ("http://chat.example", "http://chat.example:x", False),
        # A proxy may end TLS without reporting it; where https is known, http is another origin.
        ("http://chat.example", "https://chat.example", True),
        ("https://chat.example", "https://chat.example", True),
        ("https://chat.example", "http://chat.example", False),
        ("http://[::1]:5000", "http://[::1]:5000", True),
        ("http://[2001:DB8::1]", "http://[2001:db8::1]", True),
        ("http://[::1]:5000", "http://[::2]:5000", False),
        ("http://chat.example", "https://FRIEND.example", True),
        ("http://chat.example", "http://friend.example", False),
        ("http://chat.example", "https://friend.example:444", False),
    ],
)
def test_the_own_origin_and_listed_ones_are_allowed(url: str, origin: str, allowed: bool) -> None:
    with Flask("x").test_request_context("/chat", base_url=url, headers={"Origin": origin}):
        assert origin_allowed(request, [FRIEND]) is allowed
        assert origin_allowed(request, ["*"])


def test_a_request_without_an_origin_is_allowed() -> None:
    with Flask("x").test_request_context("/chat"):
        assert origin_allowed(request, [])
