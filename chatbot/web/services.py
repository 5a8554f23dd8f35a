"""The parts of one web process, as its routes and sockets use them."""

from __future__ import annotations

from dataclasses import dataclass

import redis
from flask import current_app, g, request

from chatbot.config import Settings
from chatbot.sessions.responses import Responses
from chatbot.sessions.sessions import Sessions
from chatbot.store.partitions import Partitions
from chatbot.web.enqueue import Enqueuer
from chatbot.web.fanout.hub import Hub
from chatbot.web.key_access import KeyAccess
from chatbot.web.limits.address_limits import AddressLimits
from chatbot.web.limits.frame_rates import FrameRates
from chatbot.web.limits.rates import RateLimits, network_of
from chatbot.web.limits.socket_limit import SocketLimit
from chatbot.web.metrics import WebMetrics
from chatbot.web.shared_metrics import SharedMetrics


@dataclass(frozen=True)
class Services:
    settings: Settings
    partitions: Partitions
    sessions: Sessions
    responses: Responses
    hub: Hub
    enqueuer: Enqueuer
    rate_limits: RateLimits
    frame_rates: FrameRates
    socket_limit: SocketLimit
    address_limits: AddressLimits
    key_access: KeyAccess
    metrics: WebMetrics
    shared_metrics: SharedMetrics

    @property
    def client(self) -> redis.Redis:
        """The Redis of what belongs to no session."""
        return self.partitions.home.client


def services() -> Services:
    """The parts of the current app."""
    found: Services = current_app.extensions["chatbot"]
    return found


def network() -> str:
    """The network of the current request's client, the unit that limits count."""
    if "network" not in g:
        g.network = network_of(request.remote_addr)
    found: str = g.network
    return found
