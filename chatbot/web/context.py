"""What views know of the request in progress: the parts of the application, and where the client is."""

from __future__ import annotations

from flask import current_app, g, request

from chatbot.web.rates import network_of
from chatbot.web.services import Services


def services() -> Services:
    """The parts of the current app."""
    found: Services = current_app.extensions["chatbot"]
    return found


def network() -> str:
    """The client's network, the unit that limits count."""
    if "network" not in g:
        g.network = network_of(request.remote_addr)
    found: str = g.network
    return found
