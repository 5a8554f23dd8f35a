"""The security headers of every answer, against real processes."""

from __future__ import annotations

import pytest
import requests

from chatbot.config import Settings
from devtools.harness.deployment import Deployment


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/static/main.js"),
        ("POST", "/token?name=Ada"),
        ("POST", "/token"),
        ("GET", "/nothing"),
        ("GET", "/healthz"),
        ("GET", "/" + "x" * 5000),
    ],
)
def test_every_answer_has_the_security_headers(chat: Deployment, method: str, path: str) -> None:
    headers = requests.request(method, chat.url() + path, timeout=30).headers
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "microphone=()" in headers["Permissions-Policy"]
    assert "Strict-Transport-Security" not in headers


def test_debugging_is_off_and_no_secret_has_a_default(chat: Deployment) -> None:
    assert requests.get(chat.url() + "/console", timeout=30).status_code == 404
    settings = Settings.from_env({})
    assert settings.model.token is None
    assert "@" not in settings.redis.url
