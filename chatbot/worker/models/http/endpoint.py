"""A model server's address, and the two HTTP clients that post to it.

Replies stream through libcurl where the call runs in a `ModelLoop`: in workers. What is not streamed, and what runs
elsewhere (`model-check`), goes through `requests`.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, cast
from urllib.parse import urlsplit

import requests
import urllib3

from chatbot.config import Settings
from chatbot.errors import ConfigurationError
from chatbot.worker.models.call import Call
from chatbot.worker.models.errors import CallCancelled, ModelError, ModelUnavailable
from chatbot.worker.models.http.blocking import BlockingClient
from chatbot.worker.models.http.response import ModelResponse, Route
from chatbot.worker.models.http.streamed import StreamClient
from chatbot.worker.models.server_errors.http_errors import connection_error, raise_for_status
from chatbot.worker.models.server_errors.transfer_errors import ServerSilent

#: Statuses that come with an answer.
_ANSWERED = (200, 201, 203, 206)


class ModelEndpoint:
    """A model server's address, to post to. Thread-safe."""

    def __init__(self, url: str, settings: Settings) -> None:
        self.url = url
        self.public_address = public_address(url)
        self._connect_timeout, self._read_timeout = settings.model.connect_timeout, settings.model.read_timeout
        #: Seconds of silence before the first token: a server may load the model at the first request, and stop
        #: loading when the client hangs up.
        self._first_timeout = max(settings.model.read_timeout, settings.model.loading_timeout)
        self._request_id_header = settings.model.request_id_header
        self._session_header = settings.model.session_header
        self._headers = {
            "Accept": "text/event-stream, application/json",
            # A proxy that compresses would hold chunks back.
            "Accept-Encoding": "identity",
            "User-Agent": "chatbot",
        }
        if settings.model.token:
            self._headers["Authorization"] = f"Bearer {settings.model.token}"
        self._templates: dict[str, requests.PreparedRequest] = {}
        # The environment's proxies and certificates are looked up once: for each call it would cost a
        # millisecond. `.netrc` must never replace the token.
        environment = requests.Session().merge_environment_settings(self.url, {}, True, None, None)
        verify = cast("bool | str", environment["verify"])
        if verify is True:
            # `requests` knows only variables of its own; Redis' connections use this one as well.
            verify = os.environ.get("SSL_CERT_FILE") or True
        route = Route(
            connect_timeout=self._connect_timeout,
            proxies=environment["proxies"],
            verify=verify,
            certificate=settings.model.client_certificate,
            connections=settings.worker.concurrency,
        )
        self._blocking, self._streaming = BlockingClient(route), StreamClient(route)

    @contextmanager
    def post(self, document: dict[str, Any], call: Call, url: str | None = None) -> Iterator[ModelResponse]:
        """Posts JSON; the response, to read while the context is open.

        Raises `ModelError` for every failure, also for those while the body is being read, and `CallCancelled`
        once the call is ended.
        """
        try:
            with self._post(document, call, url or self.url) as response:
                yield response
        except ModelError as error:
            error.detail = f"{error.detail} (asked {self.public_address})"
            raise

    @contextmanager
    def _post(self, document: dict[str, Any], call: Call, url: str) -> Iterator[ModelResponse]:
        response: ModelResponse | None = None
        try:
            call.check()
            call.server = self.public_address
            request = self._prepared(url, json.dumps(document).encode(), call)
            silences = self._read_timeout if call.impatient else self._first_timeout, self._read_timeout
            if call.loop is not None and document.get("stream"):
                response = self._streaming.open(request, call, call.loop, silences)
            else:
                response = self._blocking.open(request, call, silences)
            if response.status not in _ANSWERED:
                raise_for_status(response.status, response.headers, response.chunks())
            yield response
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            call.check()
            raise self._failure(error, call) from error
        finally:
            if response is not None:
                response.close()
            call.done()

    def get(self, url: str, call: Call) -> Any:
        """The JSON at another address of the same server; None when it has none there, or `call` ends before."""
        request = requests.Request("GET", url, self._headers).prepare()
        try:
            with closing(self._blocking.open(request, call, (self._read_timeout, self._read_timeout))) as response:
                return json.loads(b"".join(response.chunks())) if response.status == 200 else None
        except (
            *(requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError, RecursionError),
            CallCancelled,
        ):
            return None

    def _prepared(self, url: str, body: bytes, call: Call) -> requests.PreparedRequest:
        """A POST request. All but the body and the id is prepared once."""
        template = self._templates.get(url)
        if template is None:
            headers = {**self._headers, "Content-Type": "application/json"}
            template = self._templates[url] = requests.Request("POST", url, headers).prepare()
        prepared = requests.PreparedRequest()
        prepared.method, prepared.url = template.method, template.url
        prepared.headers = template.headers.copy()
        for name, value in (
            (self._request_id_header, call.request_id),
            (self._session_header, call.session),
            ("traceparent", call.traceparent),
        ):
            if name and value:
                prepared.headers[name] = value
        prepared.prepare_body(body, None)
        return prepared

    def _failure(self, error: Exception, call: Call) -> ModelError:
        failure = connection_error(error, self._connect_timeout, self._read_timeout)
        # `requests` reports a TLS handshake without an answer as silence too: its kind is another one.
        silent = failure.kind == "timeout" and isinstance(
            error, (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError, ServerSilent)
        )
        loads = not (call.begun or call.impatient) and self._first_timeout > self._read_timeout
        if silent and loads:
            detail = f"no token within MODEL_LOADING_TIMEOUT, {self._first_timeout:g} s"
            return ModelUnavailable("timeout", detail)
        return failure


def check_certificate(paths: Sequence[str]) -> None:
    """Raises `ConfigurationError` if `paths`, a certificate and perhaps its key, are not usable."""
    if not paths:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(paths[0], paths[1] if paths[1:] else None, _no_password)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"MODEL_CLIENT_CERT is not usable ({', '.join(paths)}): {error}") from None


def _no_password() -> str:
    # Without this OpenSSL would ask the terminal.
    raise ValueError("the key has a password")


def public_address(url: str) -> str:
    """The URL without user, password, query and fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
