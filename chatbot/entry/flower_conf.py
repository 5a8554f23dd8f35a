"""The configuration of Flower: without a password it listens on loopback only."""

from logging import getLogger
from threading import Thread

from tornado.options import options

from chatbot import logs
from chatbot.config import open_files
from chatbot.web import flower_guard
from chatbot.web.hosts import is_loopback, served_hosts
from chatbot.web.readiness import report_broker
from chatbot.web.start_checks import check_port, check_socket, check_temporary_folder

_settings = logs.settings_or_exit()

# Flower reads this file after the environment, and the command line last.
address = _settings.flower.address
port = _settings.flower.port
max_tasks = _settings.flower.max_tasks
purge_offline_workers = _settings.flower.purge_offline_workers


def _protect() -> None:
    """Ends Flower if others can reach it without a password. Called once all options have been read."""
    protected = any(options.basic_auth) or options.auth or _settings.flower.unauthenticated
    if not (protected or options.unix_socket or is_loopback(options.address)):
        raise SystemExit(
            f"Flower would be open to everybody who reaches {options.address or 'any address of this machine'}: "
            "set FLOWER_BASIC_AUTH=user:password, or FLOWER_UNAUTHENTICATED=true if something else protects it"
        )
    check_temporary_folder()
    open_files.raise_limit()
    if options.unix_socket:
        check_socket(options.unix_socket, "--unix-socket ")
    else:
        check_port(options.address, options.port, "FLOWER_PORT")
    broker = _settings.redis.broker_url
    variable = "REDIS_URL" if broker == _settings.redis.urls[0] else "CELERY_BROKER_URL"
    Thread(target=report_broker, args=(broker, variable), name="broker report", daemon=True).start()
    # A Unix socket has no name of its own.
    flower_guard.install(served_hosts("" if options.unix_socket else options.address, _settings.web.allowed_hosts))


options.add_parse_callback(_protect)
# Flower asks workers at its start, and warns four times if none answers yet.
getLogger("flower.inspector").addFilter(lambda record: record.msg != "Inspect method %s failed")

# Tornado adds no log handler of its own where there is one.
logs.configure(_settings)
logs.take_over_output(_settings)
