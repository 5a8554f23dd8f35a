"""A model server with an authority of its own, which asks for a client certificate; and connections to Redis."""

from __future__ import annotations

import http.server
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from chatbot.config import OPENAI_CHAT, Settings
from chatbot.errors import ConfigurationError
from chatbot.store.client import connect
from chatbot.worker.models.errors import ModelError, PermanentModelError
from chatbot.worker.models.http.endpoint import check_certificate
from chatbot.worker.process import _check_model
from devtools.harness.certificates import make_certificates, run_openssl
from devtools.harness.ports import free_port
from tests.support.models import ask, at

REPLY = json.dumps({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and certificates that it signed for 127.0.0.1 and for a client; a key with a password."""
    found = tmp_path_factory.mktemp("tls")
    make_certificates(found)
    both = (found / "client.pem").read_text() + (found / "client.key").read_text()
    (found / "both.pem").write_text(both)
    locked = ("ec", "-in", "client.key", "-aes256", "-passout", "pass:secret", "-out", "locked.key")
    run_openssl(found, *locked)
    return found


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(REPLY)))
        self.end_headers()
        self.wfile.write(REPLY)

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    """A model server that talks to clients with a certificate only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), _Handler) as found:
        found.socket = context.wrap_socket(found.socket, server_side=True)
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{found.server_address[1]}/v1/chat/completions"
        found.shutdown()


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize("files", [("both.pem",), ("client.pem", "client.key")])
@pytest.mark.parametrize("in_loop", [False, True])
def test_the_client_certificate_is_shown(
    server: str, folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str, files: tuple[str, ...], in_loop: bool
) -> None:
    for other in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(variable, str(folder / "ca.pem"))
    paths = tuple(str(folder / name) for name in files)
    assert ask(at(server, OPENAI_CHAT, in_loop=in_loop, client_certificate=paths), "hello") == ("Hi", "stop")
    with pytest.raises(ModelError):
        ask(at(server, OPENAI_CHAT, in_loop=in_loop), "hello")


@pytest.mark.parametrize("in_loop", [False, True])
def test_an_unknown_authority_is_refused(server: str, folder: Path, in_loop: bool) -> None:
    certificate = (str(folder / "both.pem"),)
    with pytest.raises(PermanentModelError, match=r"self-signed certificate.*SSL_CERT_FILE|verify failed"):
        ask(at(server, OPENAI_CHAT, in_loop=in_loop, client_certificate=certificate), "hello")


@pytest.mark.parametrize(
    "files", [("missing.pem",), ("client.pem",), ("client.pem", "server.key"), ("client.pem", "locked.key")]
)
def test_an_unusable_certificate_is_named(folder: Path, files: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="MODEL_CLIENT_CERT"):
        check_certificate([str(folder / name) for name in files])


def test_a_worker_with_an_unusable_certificate_does_not_start() -> None:
    settings = Settings.from_env({"MODEL_CLIENT_CERT": "/no/such/file.pem"})
    with pytest.raises(SystemExit, match=r"^Settings: MODEL_CLIENT_CERT is not usable \(/no/such/file.pem\)"):
        _check_model(settings)


def test_connections_to_redis_trust_the_authority_in_ssl_cert_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pong() -> None:
        for _ in range(2):
            raw, _ = listening.accept()
            try:
                with context.wrap_socket(raw, server_side=True) as connection:
                    while connection.recv(4096):
                        connection.sendall(b"+PONG\r\n")
            except OSError:
                continue

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    with socket.create_server(("127.0.0.1", free_port())) as listening:
        threading.Thread(target=pong, daemon=True).start()
        client = connect(f"rediss://127.0.0.1:{listening.getsockname()[1]}/0", 1, retries=0)
        with pytest.raises(redis.ConnectionError, match="certificate verify failed"):
            client.ping()
        monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
        assert client.ping()
        client.connection_pool.disconnect()


def test_one_or_two_paths_are_given() -> None:
    assert Settings.from_env({"MODEL_CLIENT_CERT": "a.pem, b.key"}).model.client_certificate == ("a.pem", "b.key")
    with pytest.raises(ConfigurationError, match="MODEL_CLIENT_CERT must be"):
        Settings.from_env({"MODEL_CLIENT_CERT": "a,b,c"})
