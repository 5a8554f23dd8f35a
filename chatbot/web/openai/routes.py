"""The routes below `/v1`."""

from __future__ import annotations

from flask import Blueprint, Response

from chatbot.protocol.client_errors import ClientError
from chatbot.web.answers import json_answer
from chatbot.web.key_access import add_limit_headers
from chatbot.web.openai.principal import principal
from chatbot.web.services import services

openai = Blueprint("openai", __name__, url_prefix="/v1")


@openai.before_request
def identify_caller() -> None:
    """Refuses a caller without access."""
    principal()


@openai.after_request
def add_key_headers(response: Response) -> Response:
    """Says what the caller's API key has left."""
    return add_limit_headers(response)


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
