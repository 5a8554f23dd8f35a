"""gunicorn's gevent worker: with an end to what clients may draw out, and with our answers to what is no HTTP."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
from http import HTTPStatus
from typing import Any

import gevent
from gevent.server import StreamServer
from gunicorn import util
from gunicorn.http import errors
from gunicorn.workers.ggevent import GeventWorker

from chatbot.web.security_headers import PLAIN_HEADERS

logger = logging.getLogger(__name__)

#: Seconds for a request's head to arrive, and for which a connection may be idle between two requests.
HEAD_TIMEOUT = 5.0
#: Seconds for the rest of a request that may have a body, and of one whose answer, a history, may be long: until the
#: answer has left. Redis may take a dozen of them.
POST_TIMEOUT = 20.0
GET_TIMEOUT = 120.0
#: Served for as long as they live.
_WEBSOCKET_PATH = "/chat"

#: What goes wrong with a request before it is one: status, code, and a sentence.
_ANSWERS: tuple[tuple[type[BaseException], tuple[int, str, str]], ...] = (
    (errors.LimitRequestLine, (414, "uri_too_long", "The address is too long")),
    (errors.LimitRequestHeaders, (431, "headers_too_long", "The headers are too long")),
    (errors.UnsupportedTransferCoding, (501, "not_implemented", "This transfer coding is not known")),
    (errors.ExpectationFailed, (417, "expectation_failed", "This expectation is not known")),
    (errors.ParseException, (400, "bad_request", "This is no HTTP request")),
)
_UNEXPECTED = (500, "internal_error", "Something went wrong on the server")


# New connections are taken one by one, with everybody's turn in between: by default a hundred handshakes go before.
# gunicorn does the same, but only where it has several processes.
StreamServer.max_accept = 1


class Worker(GeventWorker):  # type: ignore[misc]
    """`worker_class` in gunicorn.conf.py."""

    def timeout_ctx(self) -> gevent.Timeout:
        """Around the arrival of each request's head."""
        return gevent.Timeout(HEAD_TIMEOUT, False)

    def handle_request(self, listener_name: Any, req: Any, sock: socket.socket, addr: Any) -> Any:
        """One request and its answer."""
        if req.path == _WEBSOCKET_PATH:
            return super().handle_request(listener_name, req, sock, addr)
        allowed = POST_TIMEOUT if req.method == "POST" else GET_TIMEOUT
        timeout = gevent.Timeout.start_new(allowed)
        try:
            return super().handle_request(listener_name, req, sock, addr)
        except gevent.Timeout as caught:
            if caught is not timeout:
                raise
            logger.info("a request took longer than %.0f s and is cut off", allowed)
            # gunicorn closes the connection.
            raise StopIteration from None
        finally:
            timeout.close()

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answers what is no request, without a word of what it held."""
        if isinstance(exc, (gevent.GreenletExit, SystemExit)):
            # The process ends.
            return
        status, code, told = next((answer for kind, answer in _ANSWERS if isinstance(exc, kind)), _UNEXPECTED)
        if status == 500:
            logger.error("a request failed", exc_info=exc)
        else:
            logger.info("no HTTP request: %s", type(exc).__name__)
        body = json.dumps({"error": {"code": code, "message": told}}).encode()
        headers = {
            "Connection": "close",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **PLAIN_HEADERS,
            "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with contextlib.suppress(OSError):
            util.write_nonblock(client, f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{head}\r\n".encode() + body)
