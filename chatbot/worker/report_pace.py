"""How often the text of a reply in progress is reported."""

from __future__ import annotations

#: Seconds between two reports of a reply's text: short enough to look smooth. The first chunk does not wait. While
#: reports come late, chunks are gathered for longer, up to the second figure, so that there are fewer.
REPORT_INTERVAL, LONGEST_INTERVAL = 0.04, 0.09
#: A round of reports is late when it ends so many seconds after its time; factors of the interval after a late one, and
#: after one in time.
_LATE, _LONGER, _SHORTER = 0.02, 1.25, 0.95


class ReportPace:
    """The interval at which the replies of a process are reported."""

    def __init__(self) -> None:
        #: Seconds between two reports of a reply's text at present.
        self.interval = REPORT_INTERVAL

    def adapt(self, seconds: float) -> None:
        """Adapts the interval to a round that ended so many seconds after its time."""
        changed = self.interval * (_LONGER if seconds > _LATE else _SHORTER)
        self.interval = min(max(changed, REPORT_INTERVAL), LONGEST_INTERVAL)
