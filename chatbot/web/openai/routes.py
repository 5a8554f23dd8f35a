"""The routes below `/v1`."""

from __future__ import annotations

from flask import Blueprint, Response, g, request

from chatbot.protocol.client_errors import ClientError
from chatbot.web.answers import json_answer
from chatbot.web.key_access import add_limit_headers
from chatbot.web.openai import chat, responses
from chatbot.web.openai.body import MAX_BODY
from chatbot.web.openai.principal import principal
from chatbot.web.openai.socket import ResponsesSocket
from chatbot.web.services import network, services
from chatbot.web.transports.websocket import WebSocket, create_sock, require_handshake

openai = Blueprint("openai", __name__, url_prefix="/v1")
#: The routes whose answers wait for a reply.
WAITING = tuple(
    f"/v1/{path}" for path in ("responses", "responses/compact", "responses/<id>/cancel", "chat/completions")
)


_sock = create_sock()
responses.add_routes(openai)
chat.add_routes(openai)


@openai.before_request
def identify_caller() -> None:
    """Refuses a caller without access."""
    request.max_content_length = MAX_BODY
    principal()


@openai.before_request
def guard_websocket() -> None:
    """Refuses a request that is not a handshake, or beyond the connections of its address."""
    if request.endpoint != "openai.responses_socket":
        return
    require_handshake("GET on this address")
    services().address_limits.open_socket(network())
    g.responses_socket = network()


@openai.teardown_request
def count_closed_socket(_: BaseException | None) -> None:
    """After the websocket's end."""
    address = g.pop("responses_socket", None)
    if address is not None:
        services().address_limits.close_socket(address)


@_sock.route("/responses", bp=openai)
def responses_socket(ws: WebSocket) -> None:
    """The websocket of Open Responses."""
    ResponsesSocket(ws, services(), responses.service()).run()


@openai.after_request
def add_key_headers(response: Response) -> Response:
    """Says what the caller's API key has left."""
    return add_limit_headers(response)


@openai.after_request
def add_request_id(response: Response) -> Response:
    """Names the request that was accepted as the lines of the logs do."""
    if request_id := g.get("request_id"):
        response.headers["x-request-id"] = request_id
    return response


@openai.get("/models")
def models() -> Response:
    """The models that the caller may name."""
    allowed = principal().models
    found = [name for name in (services().settings.model.name,) if allowed is None or name in allowed]
    return json_answer({"object": "list", "data": [_model(name) for name in found]}, cache=False)


@openai.get("/models/<path:name>")
def model(name: str) -> Response:
    """One model."""
    allowed = principal().models
    if name != services().settings.model.name or (allowed is not None and name not in allowed):
        raise ClientError("model_not_found", "There is no such model: see /v1/models", status=404)
    return json_answer(_model(name), cache=False)


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "chatbot"}
