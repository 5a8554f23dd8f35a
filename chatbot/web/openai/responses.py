"""Open Responses over HTTP. Source: the specification and the OpenAPI document of openresponses.org."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import chain
from typing import Any

from flask import Blueprint, Response, request

from chatbot.errors import StoreUnavailable
from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.openai.create import parse_create
from chatbot.protocol.openai.failures import request_fault
from chatbot.protocol.openai.history import listed
from chatbot.protocol.openai.items import invalid
from chatbot.protocol.openai.response import View, resource
from chatbot.protocol.openai.stream_events import Sent, continues, delivered, events
from chatbot.web.answers import json_answer
from chatbot.web.openai.body import idempotency, read_json
from chatbot.web.openai.compaction import compact
from chatbot.web.openai.follow import Follower
from chatbot.web.openai.ids import ResponseId
from chatbot.web.openai.principal import principal
from chatbot.web.openai.service import Created, ResponseService
from chatbot.web.openai.serving import DONE, event_stream, event_text, wait_for_end
from chatbot.web.services import network, services

logger = logging.getLogger(__name__)

#: Items of one page of a list.
_PAGE, _LONGEST_PAGE = 20, 100


def add_routes(openai: Blueprint) -> None:
    """Adds the routes of `/v1/responses`."""
    openai.post("/responses")(create)
    openai.post("/responses/compact")(compacted)
    openai.get("/responses/<id>")(get)
    openai.delete("/responses/<id>")(delete)
    openai.post("/responses/<id>/cancel")(cancel)
    openai.get("/responses/<id>/input_items")(input_items)


def service() -> ResponseService:
    """The steps for the caller of the current request."""
    return ResponseService(services(), principal(), network())


def create() -> Response:
    """Creates a response: whole, as a stream, or in the background."""
    document = read_json()
    asked = replace(parse_create(document), repeats=idempotency(document))
    steps = service()
    created = steps.create(asked, follows=asked.stream or not asked.background)
    if asked.stream:
        return stream(steps, created, _chunks(steps.follow_new(created), -1))
    if asked.background:
        return json_answer(resource(steps.view(created.known)), cache=False)
    return json_answer(resource_when_ended(steps, created), cache=False)


def resource_when_ended(steps: ResponseService, created: Created) -> dict[str, Any]:
    """The `response` object once the response has ended. A client that goes away before cancels it."""
    done = False
    try:
        with steps.follow_new(created) as follower:
            view = wait_for_end(follower)
        done = True
        # As OpenAI's own service answers what it finds wrong before it creates a response.
        if (fault := request_fault(view.failure, "input")) is not None:
            raise fault
        return resource(view)
    finally:
        leave(steps, created, done=done)


def leave(steps: ResponseService, created: Created, *, done: bool) -> None:
    """What becomes of a response whose client has got the end, or is gone. One that may be asked for again goes on."""
    if created.request.repeats:
        return
    try:
        if not created.request.store:
            steps.end(created.known)
        elif not done and not created.request.background:
            steps.cancel(created.known)
    except (StoreUnavailable, ClientError):
        logger.warning("a response is left to end by itself")


def stream(steps: ResponseService, created: Created, chunks: Generator[str | None, None, None]) -> Response:
    """The answer that streams `chunks`; the response is left when the client goes away, or at their end."""
    first = _first_chunk(steps, created, chunks)

    def finish(whole: bool) -> None:
        chunks.close()
        leave(steps, created, done=whole)

    return event_stream(chain([first], chunks), finish)


def _first_chunk(steps: ResponseService, created: Created, chunks: Generator[str | None, None, None]) -> str | None:
    """The first part of a stream. What it raises has a status yet; the response is left then."""
    try:
        return next(chunks)
    except BaseException:
        leave(steps, created, done=False)
        raise


def _chunks(following: AbstractContextManager[Follower], after: int) -> Generator[str | None, None, None]:
    """The events behind `after`, as the text of a stream; None for a second in which nothing came."""
    with following as follower:
        for batch in batches(follower, after):
            yield "".join(map(event_text, batch)) if batch else None
        if not follower.leaving:
            yield DONE


def batches(follower: Follower, after: int) -> Iterator[list[dict[str, Any]]]:
    """The events behind `after` as they become known; an empty list for a second in which nothing came.

    Events are append-only: a text cannot replace one that was sent, so the stream ends with an error there.
    """
    sent: Sent = ()
    for view in follower:
        if view is None:
            yield []
            continue
        if not continues(view, sent):
            yield [_changed(after + 1)]
            return
        found = list(events(view, after))
        if found:
            after = found[-1]["sequence_number"]
            sent = delivered(view, after)
        yield found


def _changed(number: int) -> dict[str, Any]:
    message = "The reply has begun again: get the response for its text"
    error = {"type": "server_error", "code": "stream_interrupted", "message": message, "param": None}
    return {"type": "error", "sequence_number": number, "error": error}


def get(id: str) -> Response:
    """A response, or with `stream=true` its events behind the one with the number `starting_after`."""
    steps = service()
    known = steps.find(id)
    if request.args.get("stream", "").lower() not in ("true", "1"):
        return json_answer(resource(steps.view(known)), cache=False)
    after = _number("starting_after", -1, -1, 2**53)
    chunks = _chunks(steps.follow(known), after)
    # What it raises has a status yet.
    first = next(chunks, None)
    return event_stream(chain([first], chunks), lambda _: chunks.close())


def delete(id: str) -> Response:
    """Deletes a response."""
    steps = service()
    known = steps.find(id)
    if not steps.delete(known):
        _cancelled(steps, known)
        steps.delete(known)
    return json_answer({"id": id, "object": "response", "deleted": True}, cache=False)


def cancel(id: str) -> Response:
    """Cancels a response in the background; one that has ended stays as it is."""
    steps = service()
    known = steps.find(id)
    view = steps.view(known)
    if not view.options.get("background"):
        raise ClientError("not_cancellable", "Only a response in the background can be cancelled", param="id")
    if not view.ended:
        view = _cancelled(steps, known)
    return json_answer(resource(view), cache=False)


def _cancelled(steps: ResponseService, known: ResponseId) -> View:
    """Cancels a response, and returns it as it ended."""
    steps.cancel(known)
    with steps.follow(known) as follower:
        return wait_for_end(follower)


def input_items(id: str) -> Response:
    """The items of the conversation up to the response's own, a page of them."""
    steps = service()
    order, limit = request.args.get("order", "desc"), _number("limit", _PAGE, 1, _LONGEST_PAGE)
    if order not in ("asc", "desc"):
        raise invalid("order", "order must be asc or desc")
    items = listed(steps.items(steps.find(id)))
    if order == "desc":
        items.reverse()
    after, start = request.args.get("after"), 0
    if after:
        ids = [item["id"] for item in items]
        if after not in ids:
            # From the beginning, a client that reads page after page would not come to an end.
            raise invalid("after", "after is the id of none of these items")
        start = ids.index(after) + 1
    page = items[start : start + limit]
    answer = {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": start + limit < len(items),
    }
    return json_answer(answer, cache=False)


def compacted() -> Response:
    """A conversation as one item that stands for it."""
    return json_answer(compact(read_json(), service()), cache=False)


def _number(name: str, default: int, least: int, most: int) -> int:
    text = request.args.get(name)
    if text is None:
        return default
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise invalid(name, f"{name} must be a number from {least} to {most}")
    return number
