"""Requests that are malformed or slow, against a real gunicorn."""

from __future__ import annotations

import socket
import time

import requests

from chatbot.web.gunicorn import worker as gunicorn_worker
from devtools.harness.deployment import Deployment


def test_a_malformed_request_gets_an_error_in_json(chat: Deployment) -> None:
    for path, status, code in (("/" + "x" * 5000, 414, "uri_too_long"), ("/?token=" + "t" * 9000, 414, "uri_too_long")):
        answer = requests.get(chat.url() + path, timeout=30)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    answer = requests.get(chat.url() + "/", headers={"X": "y" * 20_000}, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (431, "headers_too_long")


def test_a_head_that_never_ends_is_cut_off(chat: Deployment) -> None:
    port = int(chat.webs[0].env["PORT"])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        began = time.monotonic()
        sock.sendall(b"GET /chat?token=x HTTP/1.1\r\nHost: localhost\r\n")
        sock.settimeout(0.5)
        while time.monotonic() - began < 4 * gunicorn_worker.HEAD_TIMEOUT:
            # Further header lines do not extend the timeout.
            try:
                sock.sendall(b"X-Slow: x\r\n")
                if sock.recv(100) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        took = time.monotonic() - began
        assert gunicorn_worker.HEAD_TIMEOUT - 1 < took < 3 * gunicorn_worker.HEAD_TIMEOUT
