"""Runs scripts on one session for its client: for a damaged session the client gets an error that says so."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from chatbot.errors import DamagedSession
from chatbot.protocol.client_errors import SessionDamaged
from chatbot.store.partitions import Partition, Partitions
from chatbot.store.scripts import Scripts, Value

logger = logging.getLogger(__name__)


class SessionScripts:
    """Every method raises `StoreUnavailable` when Redis fails, and `SessionDamaged`, whose cause it logs.

    A script gets the keys of the session, the `keys` behind them, the `further` values and the `arguments` by name.
    """

    def __init__(self, partitions: Partitions, *, replicas: int = 0) -> None:
        """What `run_replicated` writes is on so many `replicas` before it returns."""
        self._partitions = partitions
        self._scripts = Scripts(replicas=replicas)

    def run(self, script: str, session: str, keys: Sequence[str] = (), /, *further: Value, **arguments: Value) -> Any:
        at = self._partitions.of(session)
        with _shown_to_client():
            return self._scripts.run(script, at, (*at.keys(session), *keys), *further, **arguments)

    def run_replicated(
        self, script: str, session: str, keys: Sequence[str] = (), /, *further: Value, **arguments: Value
    ) -> Any:
        return self.run_replicated_at(self._partitions.of(session), script, session, keys, *further, **arguments)

    def run_replicated_at(
        self, at: Partition, script: str, session: str, keys: Sequence[str] = (), /, *further: Value, **arguments: Value
    ) -> Any:
        """For a session that may not be in its partition."""
        with _shown_to_client():
            return self._scripts.run_replicated(script, at, (*at.keys(session), *keys), *further, **arguments)


@contextmanager
def _shown_to_client() -> Iterator[None]:
    try:
        yield
    except DamagedSession as damage:
        logger.error("the session is damaged: %s", damage)  # noqa: TRY400 - the text says it all
        raise SessionDamaged from damage
