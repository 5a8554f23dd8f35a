"""What the supervisor runs: a command with its readiness check, and the rules for its restarts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Service:
    """A command, its name in the log, and when it counts as ready.

    ``env`` is the whole environment (None: the supervisor's own). ``ready`` is called from a thread of its own
    until it returns; while the service is not ready it raises, and the text of the last exception is reported
    when ``ready_within`` (seconds, from each start) runs out. `NeverReady` ends the wait at once. Without
    ``ready`` a service is ready as soon as it runs. ``after`` names the services that must be ready before this
    one starts. ``grace`` is the time in seconds between SIGTERM and SIGKILL.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] | None = None
    ready: Callable[[], None] | None = None
    after: Sequence[str] = ()
    ready_within: float = 60.0
    grace: float = 10.0


@dataclass(frozen=True)
class Restarts:
    """Rules for starting a service again that ended unexpectedly; all in seconds but ``deaths``.

    The pause before a restart is ``first`` and doubles with every death within the last ``window``, up to
    ``longest``. The ``deaths``-th death within ``window`` ends everything.
    """

    first: float = 0.5
    longest: float = 5.0
    deaths: int = 5
    window: float = 30.0
