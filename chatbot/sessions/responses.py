"""Steps on one request of a session and its reply, which OpenAI's interfaces call a response."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from chatbot.protocol import frames
from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.compact_json import to_json
from chatbot.protocol.events import STOP_CHANNEL
from chatbot.protocol.openai.response import CANCELLED
from chatbot.sessions.session_scripts import SessionScripts
from chatbot.store.partitions import Store, partitions_of

#: Messages of a conversation that go before a request, at most.
MAX_PATH = 2000


@dataclass(frozen=True)
class RequestState:
    """What is stored of a request, read in one step."""

    #: The name of the session.
    name: str
    human: dict[str, Any]
    reply: dict[str, Any] | None
    #: The text shown to the user when the request has failed.
    failure: str | None
    #: How many of the session's requests are answered before; None when none is owed.
    place: int | None
    #: Whether a worker has begun.
    begun: bool
    #: The text generated so far, and the reasoning before it and the function calls behind it.
    partial: str
    partial_reasoning: str
    partial_calls: str
    #: Number of the last event that the state includes.
    event: int


class Responses:
    """Every method raises `StoreUnavailable` when Redis fails, and `ClientError` `response_not_found`."""

    def __init__(self, store: Store, *, ttl: int) -> None:
        """`ttl` in seconds."""
        self._partitions = partitions_of(store)
        self._scripts = SessionScripts(self._partitions)
        self._ttl_ms = ttl * 1000

    def state(self, session: str, request: str) -> RequestState:
        """The request with its reply, or what there is of it. Renews the session's time to live."""
        answer = self._scripts.run("request", session, message=request, ttl_ms=self._ttl_ms)
        name, human, reply, failure, place, begun, *partial, event = self._found(answer)
        return RequestState(
            name=json.loads(name),
            human=_present(json.loads(human)),
            reply=json.loads(reply) if reply else None,
            failure=failure or None,
            place=None if place == "" else int(place),
            begun=bool(begun),
            partial=partial[0],
            partial_reasoning=partial[1],
            partial_calls=partial[2],
            event=event,
        )

    def path(self, session: str, request: str) -> tuple[str, list[dict[str, Any]]]:
        """The session's name, and the stored messages of the path to the request, its own and its reply included."""
        answer = self._scripts.run("path", session, message=request, prompt_size=MAX_PATH, ttl_ms=self._ttl_ms)
        name, *messages = self._found(answer)
        return json.loads(name), json.loads(f"[{','.join(messages)}]")

    def cancel(self, session: str, request: str) -> bool:
        """Stops the reply to a request, if it is owed. True when a task must be enqueued: no worker holds the lease."""
        status, *rest = self._scripts.run(
            "cancel",
            session,
            session=session,
            message=request,
            stop_channel=STOP_CHANNEL,
            failure=CANCELLED,
            frame=to_json(frames.failure(request, CANCELLED)),
            events=self._partitions.of(session).events(session),
            ttl_ms=self._ttl_ms,
        )
        return bool(status == "stopping" and not rest[0])

    def forget(self, session: str, request: str) -> None:
        """Deletes what the request and its reply say. Raises `ClientError` `busy` while the reply is owed."""
        self._found(self._scripts.run("forget", session, message=request, ttl_ms=self._ttl_ms))

    @staticmethod
    def _found(answer: list[Any]) -> list[Any]:
        status, *rest = answer
        if status in ("gone", "unknown"):
            raise response_not_found()
        if status == "busy":
            raise ClientError("response_in_progress", "Cancel the response, then delete it", status=409)
        return rest


def response_not_found() -> ClientError:
    """The response is unknown, or deleted."""
    return ClientError("response_not_found", "There is no response with this id", status=404, param="response_id")


def _present(human: dict[str, Any]) -> dict[str, Any]:
    if human.get("deleted"):
        raise response_not_found()
    return human
