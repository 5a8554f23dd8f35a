"""The steps behind OpenAI's interfaces: a request for a reply becomes a message of a session."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from flask import g

from chatbot.config import WITH_TOOLS
from chatbot.logs import bound
from chatbot.protocol.client_errors import ClientError, RateLimited, SessionNotFound
from chatbot.protocol.compact_json import to_json
from chatbot.protocol.openai.create import CreateRequest
from chatbot.protocol.openai.history import items_of_all
from chatbot.protocol.openai.items import Item, invalid, unanswered_outputs, unsupported
from chatbot.protocol.openai.response import View
from chatbot.sessions.requests import Accepted, Terms
from chatbot.sessions.responses import response_not_found
from chatbot.web.openai.follow import Events, Follower, view_of
from chatbot.web.openai.ids import ResponseId, new_request_id, parse_response_id, repeatable_id
from chatbot.web.openai.principal import Principal
from chatbot.web.openai.references import resolved
from chatbot.web.services import Services
from chatbot.web.traces import accepting

logger = logging.getLogger(__name__)

#: Seconds that a session lives at most whose response is not stored: its process deletes it as soon as the response
#: ends, so this counts when that process was killed.
UNSTORED_AGE = 900
_WHAT = {"tools": "function tools", "input": "images or function calls", "text.format": "JSON as the reply's format"}


@dataclass(frozen=True)
class Created:
    """A request that was accepted."""

    known: ResponseId
    #: With all items of the conversation, where no session holds those before its own.
    request: CreateRequest
    #: The id of the previous response, where its session is another one.
    previous: str | None = None
    #: The events of a new session, which were subscribed to before the request was stored.
    events: Events | None = None


class ResponseService:
    """What one caller does. Every method raises `ClientError`, and `StoreUnavailable` when Redis fails."""

    def __init__(self, services: Services, principal: Principal, network: str) -> None:
        self._services = services
        self._principal = principal
        self._network = network

    def create(self, request: CreateRequest, context: list[Item] | None = None, *, follows: bool = True) -> Created:
        """Stores a request; `context` are items before its own that no session holds. What `follows`, and only that,
        must be followed by `follow_new`.
        """
        if any(item["type"] == "item_reference" for item in request.items):
            request = replace(request, items=resolved(request.items, self.view))
        model = self._check(request)
        began = time.monotonic()
        own: dict[str, Any] = {"model": model}
        if request.background:
            own["background"] = True
        if request.stream or request.background:
            # The worker publishes function calls as they are generated, which a reply generated again must repeat.
            own["stream"] = request.deltas
        events: Events | None = None
        previous = None if request.previous_response_id is None else self._previous(request.previous_response_id)
        if previous is not None and request.store:
            self._check_outputs(request, previous)
            own_id = repeatable_id(request.repeats).request if request.repeats else new_request_id()
            known = previous._replace(request=own_id)
            self._accept(known, request, {**own, "previous": previous.request}, previous.request)
        else:
            if previous is not None:
                context = items_of_all(self._path(previous))
            request = replace(request, items=[*(context or ()), *request.items])
            check_outputs(request.items)
            known = self._begin(request)
            events = self._attach(known.session) if follows else None
            try:
                self._accept(known, request, own if request.store else {**own, "store": False}, None)
            except BaseException:
                if events is not None:
                    self._detach(events)
                if not request.repeats:
                    self._services.sessions.end(known.session)
                raise
        self._services.metrics.ack_time.observe(time.monotonic() - began)
        return Created(known, request, None if request.store else request.previous_response_id, events)

    @contextmanager
    def follow(self, known: ResponseId) -> Iterator[Follower]:
        """Follows a response. While it does, the caller takes a place among the connections of its address."""
        events = self._attach(known.session)
        try:
            yield Follower(self._services.responses, events, known)
        finally:
            self._detach(events)

    @contextmanager
    def follow_new(self, created: Created) -> Iterator[Follower]:
        """Follows a response that was just created."""
        events = created.events or self._attach(created.known.session)
        new = created.events is not None and not created.request.repeats
        try:
            yield Follower(self._services.responses, events, created.known, created.previous, new=new)
        finally:
            self._detach(events)

    def _attach(self, session: str) -> Events:
        services = self._services
        if len(services.hub) >= services.settings.limits.max_sockets:
            raise ClientError("overloaded", "Too many connections: try again later", status=503, retry_after=10.0)
        services.address_limits.open_socket(self._network)
        events = Events(session)
        try:
            with services.hub.attach_slot(session):
                services.hub.attach(events)
        except BaseException:
            services.address_limits.close_socket(self._network)
            raise
        return events

    def _detach(self, events: Events) -> None:
        self._services.hub.detach(events)
        self._services.address_limits.close_socket(self._network)

    def find(self, text: str) -> ResponseId:
        """The response with this id, if it is the caller's."""
        known = parse_response_id(text)
        if known is None:
            raise response_not_found()
        self.view(known)
        return known

    def view(self, known: ResponseId) -> View:
        """What is stored of a response."""
        state = self._services.responses.state(known.session, known.request)
        if state.name != self._principal.name:
            raise response_not_found()
        return view_of(known, state)

    def items(self, known: ResponseId) -> list[dict[str, Any]]:
        """The stored messages of the conversation up to the response's own request."""
        return [message for message in self._path(known) if message.get("reply_to") != known.request]

    def cancel(self, known: ResponseId) -> None:
        """Cancels a response that has not ended."""
        if self._services.responses.cancel(known.session, known.request):
            self._services.enqueuer.enqueue(known.session)

    def delete(self, known: ResponseId) -> bool:
        """Deletes what a response and its request say; the session too when nothing else is in it.

        False when it does nothing, as a session with other responses owes the reply: cancel it, and wait for the end.
        """
        view = self.view(known)
        if view.human["parent"] is None and self._services.sessions.snapshot(known.session).length <= 2:
            if not view.ended:
                self.cancel(known)
            self.end(known)
        elif view.ended:
            self._services.responses.forget(known.session, known.request)
        else:
            return False
        return True

    def end(self, known: ResponseId) -> None:
        """Deletes the session of a response."""
        self._services.sessions.end(known.session, self._services.rate_limits.session_keys(known.session))

    def _check(self, request: CreateRequest) -> str:
        """The name of the model that answers. Raises `ClientError` for what it cannot do."""
        settings = self._services.settings.model
        allowed = self._principal.models
        if allowed is not None and (request.model or settings.name) not in allowed:
            raise ClientError("model_not_found", "This key has no access to the model", status=404, param="model")
        needs = request.needs
        if needs and (settings.callable or any(server.api not in WITH_TOOLS for server in settings.servers)):
            raise unsupported(needs, f"{_WHAT[needs]} with its model")
        return settings.name

    def _begin(self, request: CreateRequest) -> ResponseId:
        known = repeatable_id(request.repeats) if request.repeats else None
        session = self._services.sessions.create(
            self._principal.name, max_age=0 if request.store else UNSTORED_AGE, token=known.token if known else ""
        )
        self._services.metrics.sessions.inc()
        return known or ResponseId(session["token"], new_request_id())

    def _accept(self, known: ResponseId, request: CreateRequest, further: dict[str, Any], parent: str | None) -> None:
        session, message = known.session, known.request
        g.request_id = message
        with bound(session=session, message_id=message), accepting("response", session, message):
            self._store(known, request, further, parent)

    def _store(self, known: ResponseId, request: CreateRequest, further: dict[str, Any], parent: str | None) -> None:
        services = self._services
        extra = request.stored(further)
        buckets = (*services.rate_limits.messages(known.session, self._network), *self._principal.buckets)

        def step(charge: str) -> Accepted:
            with services.enqueuer.in_doubt(known.session, known.request):
                terms = Terms(buckets, self._network, charge=charge)
                return services.sessions.requests.accept(
                    known.session, known.request, request.text, terms, parent=parent, extra=extra
                )

        try:
            accepted = services.key_access.accept(
                self._principal.key,
                known.session,
                known.request,
                to_json(extra) if "items" in extra else request.text,
                step,
                request.options.get("max_output_tokens"),
            )
        except SessionNotFound:
            raise previous_not_found() from None
        except ClientError as error:
            services.metrics.messages_refused.labels(error.code).inc()
            if error.code == "too_many_pending":
                raise RateLimited(1.0, message="Too many responses of this conversation wait: wait for one") from None
            raise
        services.metrics.messages_accepted.inc()
        if accepted.wake:
            services.enqueuer.enqueue(known.session, known.request)

    def _previous(self, text: str) -> ResponseId:
        """The previous response of a request."""
        try:
            return self.find(text)
        except ClientError as error:
            if error.code == "response_not_found":
                raise previous_not_found() from None
            raise

    def _path(self, known: ResponseId) -> list[dict[str, Any]]:
        name, messages = self._services.responses.path(known.session, known.request)
        if name != self._principal.name:
            raise response_not_found()
        return messages

    def _check_outputs(self, request: CreateRequest, previous: ResponseId) -> None:
        if unanswered_outputs(request.items):
            check_outputs([*items_of_all(self._path(previous)), *request.items])


def check_outputs(items: list[Item]) -> None:
    """Raises `ClientError` for the output of a function that was not called."""
    missing = unanswered_outputs(items)
    if missing:
        raise invalid("input", f"There is no function call with the call_id {missing[0][:64]!r}")


def previous_not_found() -> ClientError:
    """The previous response is unknown, or no longer stored."""
    return ClientError("previous_response_not_found", "There is no response with this id", param="previous_response_id")
