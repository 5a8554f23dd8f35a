"""gunicorn's gevent worker, with timeouts for slow clients, and with this project's answers to malformed requests."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
from functools import partialmethod
from http import HTTPStatus
from typing import Any

import gevent
import gevent.hub
from gevent.server import StreamServer
from gunicorn import util
from gunicorn.http import errors
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.ggevent import GeventWorker

from chatbot.web.deadlines import RequestDeadline
from chatbot.web.security_headers import PLAIN_HEADERS

logger = logging.getLogger(__name__)

#: Seconds for a request's head to arrive, and for which a connection may be idle between two requests.
HEAD_TIMEOUT = 5.0
#: Seconds for the rest of a request until its answer is sent, with a body and without. A history may be long, and Redis
#: may take a dozen seconds.
POST_TIMEOUT = 20.0
GET_TIMEOUT = 120.0
#: Bytes read at once: the tiny chunks of a body in them are parsed in a row, while all other connections wait.
_RECEIVE_BYTES = 2048
#: Bytes of an unused body that are read, so that its answer arrives, before the connection is closed.
_DRAIN_BYTES = 256 * 1024
#: Have no timeout; may stand behind the prefix that a proxy leaves.
_WEBSOCKET_PATHS = ("/chat", "/v1/responses")

#: Status, code and message for each error of gunicorn's parser; the first that matches counts.
_ANSWERS: tuple[tuple[type[BaseException], tuple[int, str, str]], ...] = (
    (errors.LimitRequestLine, (414, "uri_too_long", "The address is too long")),
    (errors.LimitRequestHeaders, (431, "headers_too_long", "The headers are too long")),
    (errors.UnsupportedTransferCoding, (501, "not_implemented", "This Transfer-Encoding is not supported")),
    (errors.ExpectationFailed, (417, "expectation_failed", "This Expect header is not supported")),
    (errors.ParseException, (400, "bad_request", "The request is not valid HTTP")),
)
_UNEXPECTED = (500, "internal_error", "Something went wrong on the server")


def _read_in_order(unreader: SocketUnreader, _: int | None = None) -> bytes:
    """Reads from a connection after all that is ready has run.

    gevent switches only where reading would block: a client that sends its bytes ahead would hold the process, and no
    timeout would end it.
    """
    gevent.sleep(0)
    chunk: bytes = unreader.sock.recv(_RECEIVE_BYTES)
    return chunk


def _log_hub_error(_: Any, context: Any, kind: Any, error: Any, trace: Any) -> None:
    """Logs an uncaught exception of a greenlet; gevent would write a traceback and the greenlet's arguments."""
    logger.error("a greenlet ended with an exception: %s", type(context).__name__, exc_info=(kind, error, trace))


gevent.hub.Hub.print_exception = _log_hub_error

SocketUnreader.chunk = _read_in_order
# gunicorn reads the rest of an unused body before the next request, however long it is.
RequestParser.finish_body = partialmethod(RequestParser.finish_body, max_bytes=_DRAIN_BYTES)

# Accepts one connection per iteration of the event loop, not a hundred: other sockets are served between handshakes.
# gunicorn does the same, but only with several processes.
StreamServer.max_accept = 1


def _is_handshake(req: Any) -> bool:
    """Whether a request, perhaps below a path, opens a websocket."""
    return req.method == "GET" and any(name == "SEC-WEBSOCKET-KEY" for name, _ in req.headers)


class GunicornWorker(GeventWorker):  # type: ignore[misc]
    """The `worker_class` in gunicorn.conf.py."""

    def timeout_ctx(self) -> gevent.Timeout:
        """The timeout for each request's head."""
        return gevent.Timeout(HEAD_TIMEOUT, False)

    def handle_request(self, listener_name: Any, req: Any, sock: socket.socket, addr: Any) -> Any:
        """Serves one request, after all that is ready has run: the next request may be in the buffer already."""
        gevent.sleep(0)
        if req.path == _WEBSOCKET_PATHS[0] or (req.path.endswith(_WEBSOCKET_PATHS) and _is_handshake(req)):
            return super().handle_request(listener_name, req, sock, addr)
        deadline = RequestDeadline(POST_TIMEOUT if req.method == "POST" else GET_TIMEOUT)
        try:
            return super().handle_request(listener_name, req, sock, addr)
        except gevent.Timeout as caught:
            if not deadline.caused(caught):
                raise
            logger.info("a request took too long, its connection is closed")
            # Has gunicorn close the connection.
            raise StopIteration from None
        except TimeoutError:
            logger.info("a client takes too long to read its answer, its connection is closed")
            raise StopIteration from None
        finally:
            deadline.close()

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answers a malformed request; neither the answer nor the log repeats any of it."""
        if isinstance(exc, (gevent.GreenletExit, SystemExit)):
            # The process shuts down.
            return
        status, code, message = next((answer for kind, answer in _ANSWERS if isinstance(exc, kind)), _UNEXPECTED)
        if status == 500:
            logger.error("a request failed", exc_info=exc)
        else:
            logger.info("malformed HTTP request: %s", type(exc).__name__)
        body = json.dumps({"error": {"code": code, "message": message}}).encode()
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
