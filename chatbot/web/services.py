"""What the routes and sockets of one web process work with."""

from __future__ import annotations

from dataclasses import dataclass

import redis

from chatbot.config import Settings
from chatbot.sessions.messages import Sessions
from chatbot.web.enqueue import Enqueuer
from chatbot.web.hub import Hub
from chatbot.web.metrics import Deployment, WebMetrics
from chatbot.web.rates import Rates
from chatbot.web.socket_limit import SocketLimit


@dataclass(frozen=True)
class Services:
    settings: Settings
    client: redis.Redis
    sessions: Sessions
    hub: Hub
    enqueuer: Enqueuer
    rates: Rates
    socket_limit: SocketLimit
    metrics: WebMetrics
    deployment: Deployment
