"""What the routes and sockets of one web process work with."""

from __future__ import annotations

from dataclasses import dataclass

import redis

from chatbot.config import Settings
from chatbot.sessions import Sessions
from chatbot.web.enqueue import Enqueuer
from chatbot.web.hub import Hub
from chatbot.web.limits import Rates, Seats
from chatbot.web.metrics import Deployment, WebMetrics


@dataclass(frozen=True)
class Services:
    settings: Settings
    client: redis.Redis
    sessions: Sessions
    hub: Hub
    enqueuer: Enqueuer
    rates: Rates
    seats: Seats
    metrics: WebMetrics
    deployment: Deployment
