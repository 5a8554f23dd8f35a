"""The operations below `/v1`: those of OpenAI's clients and of Open Responses."""

from __future__ import annotations

from functools import partial

from chatbot.protocol.openai.schemas import (
    CompactionSchema,
    CompactSchema,
    CompletionSchema,
    CreateCompletionSchema,
    CreateResponseSchema,
    DeletedSchema,
    InputItemsSchema,
    ModelSchema,
    ModelsSchema,
    OpenAIErrorSchema,
    ResponseSchema,
)
from chatbot.web.contracts.operations import Operation, part, query, refusals

_EVENTS = "text/event-stream"
_KEY = ("apiKey",)
_ID = part("id")
_refusals = partial(refusals, schema=OpenAIErrorSchema)

OPENAI_OPERATIONS = (
    Operation(
        "post",
        "/v1/responses",
        "Create a response: whole, in the background, or with `stream` as events",
        {"200": (ResponseSchema, _EVENTS), **_refusals("400", "401", "403", "404", "413", "429", "503")},
        body=CreateResponseSchema,
        security=_KEY,
    ),
    Operation(
        "get",
        "/v1/responses",
        "The websocket of Open Responses",
        {"101": None, **_refusals("401", "403", "405", "429")},
        security=_KEY,
    ),
    Operation(
        "get",
        "/v1/responses/{id}",
        "A response, or with `stream` its events",
        {"200": (ResponseSchema, _EVENTS), **_refusals("400", "401", "404", "503")},
        [
            _ID,
            query("stream", "Whether its events are wanted", type="boolean"),
            query("starting_after", "Events after the one with this number", type="integer"),
        ],
        security=_KEY,
    ),
    Operation(
        "delete",
        "/v1/responses/{id}",
        "Delete a response",
        {"200": DeletedSchema, **_refusals("401", "404", "503")},
        [_ID],
        security=_KEY,
    ),
    Operation(
        "post",
        "/v1/responses/{id}/cancel",
        "Cancel a response in the background",
        {"200": ResponseSchema, **_refusals("400", "401", "404", "503")},
        [_ID],
        security=_KEY,
    ),
    Operation(
        "get",
        "/v1/responses/{id}/input_items",
        "The items that a response got",
        {"200": InputItemsSchema, **_refusals("400", "401", "404", "503")},
        [
            _ID,
            query("order", "Oldest first, or newest first", enum=["asc", "desc"]),
            query("after", "Items after this one"),
            query("limit", "Items of the page, at most", type="integer", minimum=1, maximum=100),
        ],
        security=_KEY,
    ),
    Operation(
        "post",
        "/v1/responses/compact",
        "A conversation as one item that stands for it",
        {"200": CompactionSchema, **_refusals("400", "401", "413", "503")},
        body=CompactSchema,
        security=_KEY,
    ),
    Operation(
        "post",
        "/v1/chat/completions",
        "A chat completion: whole, or with `stream` as chunks",
        {"200": (CompletionSchema, _EVENTS), **_refusals("400", "401", "404", "413", "429", "502", "503")},
        body=CreateCompletionSchema,
        security=_KEY,
    ),
    Operation(
        "get",
        "/v1/models",
        "The models that the caller may name",
        {"200": ModelsSchema, **_refusals("401")},
        security=_KEY,
    ),
    Operation(
        "get",
        "/v1/models/{name}",
        "One model",
        {"200": ModelSchema, **_refusals("401", "404")},
        [part("name")],
        security=_KEY,
    ),
)
