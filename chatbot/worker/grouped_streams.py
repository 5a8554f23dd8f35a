"""The replies in progress of a worker process, by partition group.

A thread for each group reports to its Redis: one that is slow or lost delays no lease of another's sessions.
"""

from __future__ import annotations

from chatbot.sessions.assignments import Assignment, Progress
from chatbot.sessions.leases import Leases
from chatbot.store.partitions import Partitions
from chatbot.telemetry.counters import Counts
from chatbot.worker.models.call import Call
from chatbot.worker.open_streams import OpenStreams
from chatbot.worker.stream import Stream


class GroupedStreams:
    """An `OpenStreams` for each partition group, with the same methods."""

    def __init__(self, leases: Leases, partitions: Partitions, counts: Counts) -> None:
        self._partitions = partitions
        # Steps on several partitions are sent by a pipeline, which blocks.
        self._streams = {
            group: OpenStreams(leases, counts, in_loop=len(partitions.in_group(group)) == 1)
            for group in partitions.groups
        }

    def open(self, assignment: Assignment, call: Call) -> Stream:
        return self._of(assignment.session).open(assignment, call)

    def close(self, stream: Stream) -> None:
        self._of(stream.assignment.session).close(stream)

    def last_report(self, stream: Stream) -> Progress:
        return self._of(stream.assignment.session).last_report(stream)

    def stop(self, session: str, request: str) -> None:
        self._of(session).stop(session, request)

    def cancel_all(self, reason: str) -> int:
        return sum(streams.cancel_all(reason) for streams in self._streams.values())

    def __len__(self) -> int:
        return sum(map(len, self._streams.values()))

    def reporting(self) -> bool:
        """Whether a reply in progress is within its deadline and was reported to its Redis lately."""
        return any(streams.reporting() for streams in self._streams.values())

    def _of(self, session: str) -> OpenStreams:
        return self._streams[self._partitions.of(session).group]
