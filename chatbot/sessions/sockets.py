"""The open sockets of sessions, counted over all web processes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import redis

from chatbot.protocol.client_errors import SessionNotFound
from chatbot.sessions.session_scripts import SessionScripts
from chatbot.store.partitions import Partitions

logger = logging.getLogger(__name__)


class Sockets:
    """A socket is named by a field, `<channel of the process>/<number>`. Those of processes that died do not count."""

    def __init__(self, partitions: Partitions, scripts: SessionScripts) -> None:
        self._partitions = partitions
        self._scripts = scripts

    def add(self, session: str, field: str, most: int) -> bool:
        """Adds a socket to a session; false when `most` are open. Adding one twice is adding it once.

        Raises `SessionNotFound`, `SessionDamaged`, and `StoreUnavailable` when Redis fails.
        """
        answer = self._scripts.run("add_socket", session, field=field, most=most)
        if answer == "gone":
            raise SessionNotFound
        return bool(answer == "added")

    def remove(self, sockets: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Removes sockets, each a session and a field; returns those whose Redis failed. Unknown ones do no harm."""
        partitions = [self._partitions.of(session) for session, _ in sockets]
        failed: list[tuple[str, str]] = []
        for indexes in self._partitions.by_client(partitions):
            try:
                with partitions[indexes[0]].client.pipeline(transaction=False) as pipeline:
                    for index in indexes:
                        session, field = sockets[index]
                        pipeline.hdel(partitions[index].keys(session).sockets, field)
                    pipeline.execute()
            except redis.RedisError as error:
                logger.debug("closed sockets still count: %s", error)
                failed += [sockets[index] for index in indexes]
        return failed
