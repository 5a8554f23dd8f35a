"""URLs of Redis: checked once, and written in the one form that redis-py and Celery's transport both take.

No error repeats any part of a URL but the names of its options, as the rest may hold a password.
"""

from __future__ import annotations

import math
import os
import re
import ssl
from collections.abc import Callable
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from chatbot.config.host_names import is_host
from chatbot.store.cluster.topology import CLUSTER_SCHEMES, ClusterAddress
from chatbot.store.sentinel import SENTINEL_SCHEMES, SentinelAddress

#: Celery's name of a scheme, and the one used here.
_ALIASES = {"redis+socket": "unix"}
SCHEMES = ("redis", "rediss", "unix", *SENTINEL_SCHEMES, *CLUSTER_SCHEMES)
_TLS_SCHEMES = ("rediss", "sentinels", "rediss+cluster")

#: Seconds. Workers wait for tasks in commands that take one second.
_SHORTEST_TIMEOUT, _LONGEST_TIMEOUT = 2.0, 600.0
_OPTION_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}\Z")
#: A comma before the scheme of the next URL.
_BETWEEN_URLS = re.compile(r"\s*,\s*(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_UNSAFE = re.compile(r"[\x00-\x20\x7f]")


def split_urls(urls: str) -> tuple[str, ...]:
    """Each of several URLs, separated by commas. The commas between the hosts of a Sentinel's URL separate none."""
    if "://" not in urls:
        return tuple(part.strip() for part in urls.split(","))
    return tuple(_BETWEEN_URLS.split(urls.strip()))


def checked_redis_url(raw: str, encode: str) -> str:
    """`raw` with the options in redis-py's spelling; `host:port` alone will do. Raises `ValueError`.

    `encode` says what to do about a password that is not percent-encoded.
    """
    url = raw if "://" in raw else f"redis://{raw}"
    scheme, _, rest = url.partition("://")
    scheme = _ALIASES.get(scheme.lower(), scheme.lower())
    if scheme not in SCHEMES:
        raise ValueError(f"must begin with one of {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    url = f"{scheme}://{rest}"
    parts = _split(url, encode)
    options = _read_options(parts)
    if scheme == "unix":
        if not parts.path.strip("/"):
            raise ValueError("names no socket: write unix:///run/redis.sock")
    elif scheme in SENTINEL_SCHEMES:
        SentinelAddress.parse(url)
    elif scheme in CLUSTER_SCHEMES:
        _check_nodes(url)
    else:
        _check_host_and_db(parts)
    return _with_options(parts, options)


def _split(url: str, encode: str) -> SplitResult:
    """The parts of the URL. Raises `ValueError` where a character of the password ends the part that it stands in."""
    if _UNSAFE.search(url):
        raise ValueError(f"holds a space or a control character: {encode}")
    try:
        parts = urlsplit(url)
        if parts.scheme not in (*SENTINEL_SCHEMES, *CLUSTER_SCHEMES):
            _ = parts.port
    except ValueError:
        raise ValueError(f"is not a URL: check the host and the port, and {encode}") from None
    if parts.scheme == "unix":
        misplaced = bool(parts.netloc) and not parts.netloc.endswith("@")
    else:
        misplaced = "@" in f"{parts.path}{parts.query}"
    if "#" in url or misplaced:
        raise ValueError(f"holds one of the characters # / ? @ where no URL can: {encode}")
    return parts


def _check_host_and_db(parts: SplitResult) -> None:
    if not parts.hostname:
        raise ValueError("names no host")
    if not is_host(parts.hostname):
        raise ValueError("names a host that cannot exist")
    db = parts.path.removeprefix("/")
    if db and not (db.isascii() and db.isdecimal()):
        raise ValueError("must end with the number of a database, such as /0, or with the host")


def _check_nodes(url: str) -> None:
    nodes = ClusterAddress.parse(url).nodes
    if not all(is_host(node.host) for node in nodes):
        raise ValueError("names a host that cannot exist")
    if len(set(nodes)) < len(nodes):
        raise ValueError("names the same node twice")


def _read_options(parts: SplitResult) -> dict[str, str]:
    options: dict[str, str] = {}
    for given, value in parse_qsl(parts.query, keep_blank_values=True):
        name = _OPTION_ALIASES.get(given, given)
        if name not in _OPTIONS or (name.startswith("sentinel_") and parts.scheme not in SENTINEL_SCHEMES):
            shown = f"the option {given}" if _OPTION_NAME.match(given) else "an option"
            raise ValueError(f"has {shown} that this program does not know: it knows {', '.join(sorted(_OPTIONS))}")
        if name.startswith("ssl_") and parts.scheme not in _TLS_SCHEMES:
            begin = ", ".join(f"{scheme}://" for scheme in _TLS_SCHEMES)
            raise ValueError(f"has the option {given}, which needs TLS: begin it with one of {begin}")
        try:
            options[name] = _OPTIONS[name](value)
        except ValueError as error:
            raise ValueError(f"has the option {given}, which {error}") from None
    return options


def _with_options(parts: SplitResult, options: dict[str, str]) -> str:
    """The URL with these options; user and password stand before the host, and the database behind it."""
    user, password = options.pop("username", ""), options.pop("password", "")
    netloc = parts.netloc
    if (user or password) and "@" not in netloc:
        netloc = f"{quote(user, safe='')}:{quote(password, safe='')}@{netloc}"
    path = parts.path
    if "db" in options and parts.scheme in ("redis", "rediss"):
        path = f"/{options.pop('db')}"
    query = f"?{urlencode(options)}" if options else ""
    return f"{parts.scheme}://{netloc}{path}{query}"


def _text(value: str) -> str:
    return value


def _database(value: str) -> str:
    if not (value.isascii() and value.isdecimal()):
        raise ValueError("must be the number of a database")
    return value


def _timeout(value: str) -> str:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not _SHORTEST_TIMEOUT <= seconds <= _LONGEST_TIMEOUT:
        raise ValueError(f"must be a number of seconds from {_SHORTEST_TIMEOUT:g} to {_LONGEST_TIMEOUT:g}")
    return value


def _whole_seconds(value: str) -> str:
    if not (value.isascii() and value.isdecimal() and int(value) <= _LONGEST_TIMEOUT):
        raise ValueError(f"must be a whole number of seconds, {_LONGEST_TIMEOUT:g} at most")
    return value


def _boolean(value: str) -> str:
    if value.lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise ValueError("must be true or false")
    return str(value.lower() in ("true", "1", "yes"))


def _requirement(value: str) -> str:
    name = value.lower().removeprefix("cert_")
    if name not in ("none", "optional", "required"):
        raise ValueError("must be none, optional or required (or CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED)")
    return name


def _file(value: str) -> str:
    if not os.path.isfile(value):
        raise ValueError("names a file that is not there")
    if not os.access(value, os.R_OK):
        raise ValueError("names a file that this user may not read")
    return value


def _authorities(value: str) -> str:
    try:
        ssl.create_default_context(cafile=_file(value))
    except ssl.SSLError:
        raise ValueError("names a file that holds no certificate in PEM form") from None
    return value


def _folder(value: str) -> str:
    if not os.path.isdir(value):
        raise ValueError("names a folder that is not there")
    return value


#: Celery's name of an option, and redis-py's.
_OPTION_ALIASES = {"virtual_host": "db", "user": "username"}
#: The options that work for sessions and queue alike, each with the reader of its value.
_OPTIONS: dict[str, Callable[[str], str]] = {
    "client_name": _text,
    "db": _database,
    "health_check_interval": _whole_seconds,
    "password": _text,
    "sentinel_password": _text,
    "sentinel_username": _text,
    "socket_connect_timeout": _timeout,
    "socket_timeout": _timeout,
    "ssl_ca_certs": _authorities,
    "ssl_ca_path": _folder,
    "ssl_cert_reqs": _requirement,
    "ssl_certfile": _file,
    "ssl_check_hostname": _boolean,
    "ssl_keyfile": _file,
    "ssl_password": _text,
    "username": _text,
}
