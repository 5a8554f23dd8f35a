"""The Flask application: the one place that wires."""

from __future__ import annotations

import click
from flask import Flask

from chatbot import logs
from chatbot.config import Settings, load_settings
from chatbot.queue.celery_app import create_celery
from chatbot.sessions.messages import Sessions
from chatbot.store.client import connect
from chatbot.store.listener import LISTENER_CONNECTIONS
from chatbot.web import assets
from chatbot.web.chat_socket import MAX_FRAME
from chatbot.web.enqueue import Enqueuer
from chatbot.web.hub import Hub
from chatbot.web.metrics import Deployment, WebMetrics
from chatbot.web.outbox import RECEIVE_BYTES, Reader
from chatbot.web.proxies import trust_proxies
from chatbot.web.rates import Rates
from chatbot.web.routes import MAX_BODY, register
from chatbot.web.services import Services
from chatbot.web.socket_limit import SocketLimit

#: Connections to Redis of one web process: a step takes less than a millisecond, so few are in use at once.
_MAX_CONNECTIONS = 50


def create_app(settings: Settings | None = None) -> Flask:
    """The application; settings come from the environment unless given. It connects to Redis when first used.

    Raises `ConfigurationError` for a setting that makes no sense.
    """
    settings = settings or load_settings()
    logs.configure(settings)
    app = Flask("chatbot.web", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.config["SOCK_SERVER_OPTIONS"] = {
        "ping_interval": settings.web.ping_interval,
        "max_message_size": MAX_FRAME,
        "receive_bytes": RECEIVE_BYTES,
        "thread_class": Reader,
    }
    client = connect(settings.redis.url, _MAX_CONNECTIONS)
    listening = connect(settings.redis.url, LISTENER_CONNECTIONS, retries=0)
    sessions = Sessions(
        client,
        ttl=settings.limits.session_ttl,
        max_pending=settings.limits.max_pending_messages,
        wait_replicas=settings.redis.wait_replicas,
        max_history=settings.limits.max_history_messages,
        max_queue_age=settings.limits.max_queue_age,
    )
    metrics = WebMetrics()
    hub = Hub(listening, sessions, metrics.listener_breaks.inc, metrics.heard_now)
    celery = create_celery(settings)
    app.extensions["celery"] = celery
    app.extensions["chatbot"] = Services(
        settings=settings,
        client=client,
        sessions=sessions,
        hub=hub,
        rates=Rates(settings, client),
        socket_limit=SocketLimit(sessions, hub.channel, settings.limits.max_sockets_per_session),
        enqueuer=Enqueuer(celery, metrics.enqueue_failures.inc),
        metrics=metrics,
        deployment=Deployment(client, celery, settings.worker.health_timeout),
    )
    assets.register(app)
    register(app)
    trust_proxies(app, settings.web.trusted_proxies)

    @app.cli.command("model-check")
    def model_check() -> None:
        """Ask the configured model one question and say what was found; exit status 1 when it gave no reply."""
        # Only this command needs the worker's side.
        from chatbot.worker.model_check import check

        if not check(settings, click.echo):
            raise SystemExit(1)

    return app
