"""The chat page."""

from __future__ import annotations

import gzip
from functools import lru_cache

from flask import Blueprint, Response, render_template, request

from chatbot.web.services import services

routes = Blueprint("page", __name__)


# The page differs only by the depth of its address.
@lru_cache(maxsize=4)
def _compressed(html: str) -> bytes:
    return gzip.compress(html.encode(), 6, mtime=0)


@routes.get("/")
@routes.get("/c/<id>")
def chat_page(id: str = "") -> Response:  # noqa: ARG001 - the page's script reads the chat's id from the address
    """The chat page; at `/c/ID` it opens the chat with this id if the browser has it."""
    settings = services().settings
    html = render_template("chat.html", model=settings.model, longest=settings.limits.max_message_length)
    response = Response(html, mimetype="text/html")
    if request.accept_encodings.quality("gzip") > 0:
        response.set_data(_compressed(html))
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept-Encoding"
    response.headers["Cache-Control"] = "no-cache"
    return response
