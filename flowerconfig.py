"""How `celery -A celery_worker flower` serves: on this machine only, or behind a password, unless told otherwise."""

import ipaddress
import os

from tornado.options import options

from chatbot import logs
from chatbot.config import load_settings

# Flower reads this file after the environment: what the environment says is repeated here.
address = os.environ.get("FLOWER_ADDRESS") or "127.0.0.1"
#: Tasks kept for the pages; a hundred thousand, the default, take several hundred MB.
max_tasks = int(os.environ.get("FLOWER_MAX_TASKS", "10000"))
#: Seconds after which a worker that is gone leaves the list.
purge_offline_workers = int(os.environ.get("FLOWER_PURGE_OFFLINE_WORKERS", "60"))


def _stays_inside(host):  # type: ignore[no-untyped-def]
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check() -> None:
    """Runs once the command line, which wins over this file, has been read."""
    guarded = any(options.basic_auth) or options.auth
    told = os.environ.get("FLOWER_UNAUTHENTICATED", "").strip().lower() in ("true", "1", "yes", "on")
    if not (guarded or told or options.unix_socket or _stays_inside(options.address)):
        raise SystemExit(
            f"Flower would be open to everybody who reaches {options.address or 'any address of this machine'}: "
            "set FLOWER_BASIC_AUTH=user:password, or FLOWER_UNAUTHENTICATED=true if something else guards it"
        )


options.add_parse_callback(_check)

# Tornado adds no handler of its own where there is one.
logs.configure(load_settings())
