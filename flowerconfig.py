"""The configuration of `celery -A celery_worker flower`: without a password it listens on loopback only."""

import ipaddress

from tornado.options import options

from chatbot import logs
from chatbot.config import load_settings

_settings = load_settings()

# Flower reads this file after the environment, and the command line last.
address = _settings.flower.address
port = _settings.flower.port
max_tasks = _settings.flower.max_tasks
purge_offline_workers = _settings.flower.purge_offline_workers


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _require_protection() -> None:
    """Ends Flower if others can reach it without a password. Called once all options have been read."""
    protected = any(options.basic_auth) or options.auth or _settings.flower.unauthenticated
    if not (protected or options.unix_socket or _is_loopback(options.address)):
        raise SystemExit(
            f"Flower would be open to everybody who reaches {options.address or 'any address of this machine'}: "
            "set FLOWER_BASIC_AUTH=user:password, or FLOWER_UNAUTHENTICATED=true if something else protects it"
        )


options.add_parse_callback(_require_protection)

# Tornado adds no log handler of its own where there is one.
logs.configure(_settings)
