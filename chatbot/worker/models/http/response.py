"""What the HTTP clients have in common: a request to a model server, and the response that is read as it arrives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from chatbot.worker.models.call import Call


@dataclass(frozen=True)
class Route:
    """How a model server is reached: proxy, certificates, seconds to connect."""

    connect_timeout: float
    #: By scheme, as `requests` takes them.
    proxies: Mapping[str, str]
    #: False, True for the public authorities, or the path of others.
    verify: bool | str
    #: The paths of a client certificate and its key; one path, or none.
    certificate: tuple[str, ...]
    #: Connections that are kept open at most.
    connections: int


class ModelResponse(ABC):
    """A response of the model server; its body is read as it arrives."""

    status: int
    headers: Mapping[str, str]
    #: Whether the end of the body shows, so that a connection that closes before it is one that was cut.
    framed: bool

    def __init__(self, call: Call, silence: float) -> None:
        """`silence` bounds the seconds between two chunks, once the reply has begun."""
        self._call = call
        self._silence = silence
        self._bound: float | None = None
        #: Whether all that has arrived was read to its end, so that the next chunk of the reply has yet to arrive.
        self.all_read = False

    def shows_end(self, *, chunked: bool) -> bool:
        """Whether a body that is cut shows as such. The HTTP clients accept the beginning of a compressed one."""
        compressed = self.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity")
        return (chunked or "Content-Length" in self.headers) and not compressed

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def streams_calls(self) -> bool:
        """Whether function calls are wanted as they are generated."""
        return bool((self._call.options or {}).get("stream"))

    def chunks(self) -> Iterator[bytes]:
        """The body, in chunks of whatever size arrives."""
        while True:
            chunk = self._read()
            self.all_read = False
            self._call.check()
            if not chunk:
                return
            yield chunk

    def begun(self) -> None:
        """Notes that the first token has arrived: from now on the server may be silent for a shorter time."""
        self._call.begin()

    def quiet(self, seconds: float | None) -> None:
        """Bounds the silence before the next chunk: by `seconds`, or else by what is usual within a reply."""
        bound = seconds or self._silence
        if bound != self._bound and self._call.begun:
            self._bound = bound
            self._allow_silence(min(bound, self._silence))

    def check(self) -> None:
        """Raises `CallCancelled` if the call has been ended."""
        self._call.check()

    @abstractmethod
    def _read(self) -> bytes:
        """The next bytes; none at the end of the body."""

    @abstractmethod
    def _allow_silence(self, seconds: float) -> None:
        """Bounds the silence before the next byte."""

    @abstractmethod
    def close(self) -> None:
        """Puts the connection back into the pool if the body is at its end, or about to be; else closes it."""
