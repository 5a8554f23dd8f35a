"""The routes for those who run the server or write programs for it: health, metrics, contracts."""

from __future__ import annotations

import hmac
from functools import cache

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.compact_json import to_json
from chatbot.web.answers import authorization, json_answer, json_text_answer
from chatbot.web.contracts.asyncapi import asyncapi
from chatbot.web.contracts.openapi import openapi
from chatbot.web.readiness import readiness
from chatbot.web.services import services

routes = Blueprint("operations", __name__)


@routes.get("/healthz")
def healthz() -> Response:
    """Liveness: this process answers."""
    return json_answer({"status": "ok"}, cache=False)


@routes.get("/readyz")
def readyz() -> Response:
    """Readiness: 200 when this process can serve a chat, else 503 with the part that fails."""
    found = services()
    ready, parts = readiness(found.partitions, found.hub, found.settings.worker.health_timeout)
    if not ready:
        failing = [
            f"redis: {parts['redis']}" if part == "redis" else part
            for part in ("redis", "redisjson", "listener")
            if parts[part] != "ok"
        ]
        parts["error"] = {"code": "not_ready", "message": f"Not ready: {', '.join(failing)}"}
    return json_answer(parts, status=200 if ready else 503, cache=False)


@routes.get("/openapi.json")
def openapi_document() -> Response:
    """The contract of the HTTP routes."""
    return json_text_answer(_contract("openapi"))


@routes.get("/asyncapi.json")
def asyncapi_document() -> Response:
    """The contract of the websocket."""
    return json_text_answer(_contract("asyncapi"))


@cache
def _contract(name: str) -> str:
    return to_json(openapi() if name == "openapi" else asyncapi())


@routes.get("/metrics")
def metrics() -> Response:
    """Prometheus text; asks for METRICS_TOKEN if that is set."""
    found = services()
    wanted = found.settings.web.metrics_token
    if wanted and not hmac.compare_digest((authorization() or "").encode(), wanted.encode()):
        raise ClientError("unauthorized", "Send METRICS_TOKEN as a bearer token", status=401)
    response = Response(found.metrics.exposition(found.shared_metrics), content_type=CONTENT_TYPE_PLAIN_0_0_4)
    response.headers["Cache-Control"] = "no-store"
    return response
