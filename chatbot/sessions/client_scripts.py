"""Runs scripts for clients: for a damaged session the client gets an error that says that asking again is of no use."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from chatbot.errors import DamagedSession
from chatbot.protocol.client_errors import SessionDamaged
from chatbot.store.partitions import Place
from chatbot.store.scripts import Scripts, Value

logger = logging.getLogger(__name__)


class ClientScripts(Scripts):
    """Raises `SessionDamaged`, and logs why, where `Scripts` raises `DamagedSession`."""

    def run(self, name: str, at: Place, keys: Sequence[str], /, *further: Value, **arguments: Value) -> Any:
        with _shown_to_client():
            return super().run(name, at, keys, *further, **arguments)

    def run_replicated(self, name: str, at: Place, keys: Sequence[str], /, *further: Value, **arguments: Value) -> Any:
        with _shown_to_client():
            return super().run_replicated(name, at, keys, *further, **arguments)


@contextmanager
def _shown_to_client() -> Iterator[None]:
    try:
        yield
    except DamagedSession as damage:
        logger.error("the session is damaged: %s", damage)  # noqa: TRY400 - the text says it all
        raise SessionDamaged from damage
