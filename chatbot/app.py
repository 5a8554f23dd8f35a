"""The Flask application: creates the parts of a web process and connects them."""

from __future__ import annotations

from dataclasses import replace

import click
from celery import Celery
from flask import Flask

from chatbot import logs
from chatbot.config import Settings, load_settings
from chatbot.queue.celery_app import create_celery
from chatbot.queue.elements import task_elements
from chatbot.sessions.ledger import Ledger
from chatbot.sessions.responses import Responses
from chatbot.sessions.sessions import Sessions
from chatbot.store.partition_table import open_partitions
from chatbot.web.assets import add_assets
from chatbot.web.commands.keys import key_commands
from chatbot.web.commands.sessions import session_commands
from chatbot.web.enqueue import Enqueuer
from chatbot.web.fanout.hub import Hub
from chatbot.web.key_access import KeyAccess
from chatbot.web.limits.address_limits import AddressLimits
from chatbot.web.limits.frame_rates import FrameRates
from chatbot.web.limits.rates import RateLimits
from chatbot.web.limits.socket_limit import SocketLimit
from chatbot.web.metrics import WebMetrics
from chatbot.web.openai.routes import WAITING
from chatbot.web.proxies import trust_proxies
from chatbot.web.request_times import time_requests
from chatbot.web.routes import add_routes
from chatbot.web.routes.sessions import MAX_BODY
from chatbot.web.services import Services
from chatbot.web.shared_metrics import SharedMetrics
from chatbot.web.start_checks import check_app
from chatbot.web.transports.frame_handler import MAX_FRAME
from chatbot.web.transports.routes import WEBSOCKET

#: Connections of one web process to a Redis: a script takes less than a millisecond, so few are in use at once.
_MAX_CONNECTIONS = 50


def create_app(settings: Settings | None = None) -> Flask:
    """The application; settings come from the environment unless given. It connects to Redis when first used.

    Ends a process without the server that it needs, unless settings are given.
    """
    if settings is None:
        check_app()
        settings = load_settings()
        if click.get_current_context(silent=True):
            # A command of the operator.
            settings = replace(settings, log=replace(settings.log, format="text"))
    logs.configure(settings)
    celery = create_celery(settings)
    services = _create_services(settings, celery)
    app = Flask("chatbot.web", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.config["SOCK_SERVER_OPTIONS"] = {
        "ping_interval": settings.web.ping_interval,
        "max_message_size": MAX_FRAME,
        "on_slow": services.metrics.slow_clients.inc,
    }
    app.extensions["celery"] = celery
    app.extensions["chatbot"] = services
    time_requests(app, services.metrics.request_time, without=(WEBSOCKET, *WAITING))
    add_assets(app)
    add_routes(app)
    trust_proxies(app, settings.web.trusted_proxies, settings.web.prefix)
    _add_commands(app, services)
    return app


def _add_commands(app: Flask, services: Services) -> None:
    """Adds what an operator runs with `flask --app wsgi`."""

    @app.cli.command("model-check")
    def model_check() -> None:
        """Ask the configured model one question and print the result; exit status 1 when it gave no reply."""
        # Only this command needs the worker's packages.
        from chatbot.worker.model_check import check, sources

        click.echo(sources())
        if not check(services.settings, click.echo):
            raise SystemExit(1)

    app.cli.add_command(key_commands(services.key_access, services.client))
    for command in session_commands(services.sessions, services.rate_limits):
        app.cli.add_command(command)


def _create_services(settings: Settings, celery: Celery) -> Services:
    partitions = open_partitions(settings.redis.urls, _MAX_CONNECTIONS)
    sessions = Sessions(
        partitions,
        ttl=settings.limits.session_ttl,
        max_pending=settings.limits.max_pending_messages,
        wait_replicas=settings.redis.wait_replicas,
        max_history=settings.limits.max_history_messages,
        max_history_bytes=settings.limits.max_history_bytes,
        max_queue_age=settings.limits.max_queue_age,
        max_age=settings.limits.max_session_age,
        **({"task": task_elements(celery)} if settings.redis.broker_url == settings.redis.urls[0] else {}),
    )
    metrics = WebMetrics()
    hub = Hub(partitions, sessions, metrics.listener_breaks.inc, metrics.set_heard)
    return Services(
        settings=settings,
        partitions=partitions,
        sessions=sessions,
        responses=Responses(partitions, ttl=settings.limits.session_ttl),
        hub=hub,
        enqueuer=Enqueuer(celery, Ledger(partitions), metrics.enqueue_failures.inc),
        rate_limits=RateLimits(settings, partitions),
        frame_rates=FrameRates(settings),
        socket_limit=SocketLimit(sessions, hub.channel, settings.limits.max_sockets_per_session),
        address_limits=AddressLimits(settings),
        key_access=KeyAccess(settings, partitions),
        metrics=metrics,
        shared_metrics=SharedMetrics(partitions, celery, settings.worker.health_timeout),
    )
