"""What a failed transfer of libcurl means, as a `ModelError`. libcurl's own texts quote addresses: few are logged."""

from __future__ import annotations

import errno
import os
import re

import pycurl

from chatbot.worker.models.errors import ModelError, ModelUnavailable, PermanentModelError, TransientModelError

#: Codes of failures whose cause is a certificate or a TLS setting: they repeat.
_TLS = (
    *(pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CERTPROBLEM, pycurl.E_SSL_CIPHER, pycurl.E_SSL_ISSUER_ERROR),
    *(pycurl.E_SSL_CACERT_BADFILE, pycurl.E_SSL_CRL_BADFILE, pycurl.E_SSL_INVALIDCERTSTATUS),
)
#: How a TLS connection ends that a restarting server or a network cuts: no reason to give up.
_TLS_CUT = re.compile(
    r"SSL_ERROR_SYSCALL|SSL_ERROR_ZERO_RETURN|unexpected eof|reset by peer|broken pipe", re.IGNORECASE
)
#: How OpenSSL reports that the other side ended the connection for a reason of TLS.
_ALERT = re.compile(r"\balert\b", re.IGNORECASE)
#: Texts of OpenSSL and libcurl that quote no server.
_LOCAL_TEXT = re.compile(
    r"SSL certificate [A-Za-z ]+: [\w -]+|CONNECT tunnel failed, response \d{3}|SSL routines::[\w -]+"
)
_WORDS = {
    pycurl.E_COULDNT_RESOLVE_PROXY: "the proxy's name is not known",
    pycurl.E_COULDNT_RESOLVE_HOST: "the host's name is not known",
    pycurl.E_COULDNT_CONNECT: "could not connect",
    pycurl.E_GOT_NOTHING: "the server closed the connection without an answer",
    pycurl.E_SEND_ERROR: "the connection broke during the request",
    pycurl.E_RECV_ERROR: "the connection broke during the answer",
    pycurl.E_PARTIAL_FILE: "the connection closed before the end of the answer",
    pycurl.E_BAD_CONTENT_ENCODING: "the compressed answer is broken",
    pycurl.E_SSL_CONNECT_ERROR: "the TLS handshake failed",
    pycurl.E_PEER_FAILED_VERIFICATION: "the server's certificate does not fit its name",
    pycurl.E_SSL_CERTPROBLEM: "the client certificate is not usable",
    pycurl.E_SSL_CACERT_BADFILE: "the file of authorities is not usable",
}
_NOT_HTTP = "the answer is not HTTP"
#: How OpenSSL reports an answer that is not TLS, but HTTP, say.
_NOT_TLS = re.compile(r"wrong.version.number|packet.length.too.long|record.layer.failure", re.IGNORECASE)


class TransferFailed(OSError):
    """A transfer that libcurl ended."""

    def __init__(self, code: int, text: str, system_error: int = 0, *, handshaking: bool = False) -> None:
        """libcurl's code and text, the error number of the operating system, 0 without one.

        `handshaking`: the connection was there, its TLS session not yet.
        """
        super().__init__(code, text)
        self.code, self.text, self.system_error, self.handshaking = code, text, system_error, handshaking


class ServerSilent(TimeoutError):
    """The server sent nothing for longer than it may."""


def transfer_error(error: TransferFailed, connect_timeout: float) -> ModelError:
    """The `ModelError` for a failed transfer; the timeout in seconds, as it was set."""
    code = error.code
    if code == pycurl.E_OPERATION_TIMEDOUT:
        within = f"within MODEL_CONNECT_TIMEOUT, {connect_timeout:g} s"
        if error.handshaking:
            return TransientModelError("tls", f"no TLS handshake {within}; does the server use TLS?")
        return TransientModelError("timeout", f"no connection {within}")
    if code == pycurl.E_URL_MALFORMAT:
        return PermanentModelError("address", "check MODEL_URL")
    refused = code == pycurl.E_SSL_CONNECT_ERROR and not _TLS_CUT.search(error.text)
    if code in _TLS or refused or _ALERT.search(error.text):
        return PermanentModelError("tls", f"{_reason(error)}; {tls_advice(error.text)}")
    if error.system_error == errno.ECONNREFUSED:
        # Without a proxy in front, which would answer 503, this is how a server restarts.
        return ModelUnavailable("connection", _reason(error))
    return TransientModelError("connection", _reason(error))


def tls_advice(text: str) -> str:
    """What to look at, by OpenSSL's text for a failure."""
    if _NOT_TLS.search(text):
        return "does the server use TLS?"
    return "an authority of your own goes into REQUESTS_CA_BUNDLE or SSL_CERT_FILE"


def _reason(error: TransferFailed) -> str:
    local = _LOCAL_TEXT.search(error.text)
    detail = os.strerror(error.system_error) if error.system_error else local[0] if local else ""
    words = _WORDS.get(error.code, _NOT_HTTP)
    return f"{words} ({detail})" if detail else words
