"""One log for many processes: every line goes to a file, and what matters also to the screen."""

import io
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import cycle
from typing import TextIO

COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)  # ANSI; no red, which looks like an error
LAST_LINES = 20  # of a process, shown when it ends unexpectedly

#: A line at warning or above: of our own log, as text or JSON, and of Redis, whose level is a character.
_SERIOUS = re.compile(
    r"\d (?:WARNING|ERROR|CRITICAL) |\"level\": ?\"(?:warning|error|critical)\"|^\d+:[A-Z] [^#*]{10,40} # ", re.I
)
#: Warnings about which the user of a laptop or a container can do nothing, or need do nothing; and one that `make run`
#: shows itself, once for all processes.
_NOISE = re.compile(
    "Memory overcommit|Transparent Huge Pages|TCP backlog|Failed to unload module|ready to exit|runs as root|"
    "is not a setting: ",
    re.I,
)


class LogStream:
    """Writes ``name | line`` to ``out``, from any thread. Never raises when ``out`` is gone.

    ``names`` fixes the padding and the colours; there are colours only when ``out`` is a terminal and NO_COLOR
    is not set. With a ``file``, every line is written to it, and ``out`` gets those at warning or above; all when
    the file cannot be written.
    ``on_gone`` is called once, from the writing thread, when writing to ``out`` fails because the pager or the
    terminal went away.
    """

    def __init__(
        self, out: TextIO, names: Iterable[str], on_gone: Callable[[], None], file: TextIO | None = None
    ) -> None:
        names = list(names)
        if isinstance(out, io.TextIOWrapper):
            out.reconfigure(errors="replace")  # a log line may hold characters that the terminal's encoding lacks
        self._out = out
        self._file = file
        self._on_gone = on_gone
        self._gone = False
        self._lock = threading.Lock()
        width = max(map(len, names), default=0)
        coloured = out.isatty() and not os.environ.get("NO_COLOR")
        self._plain = {name: f"{name:<{width}} | " for name in names}
        self._prefixes = dict(self._plain)
        self._last = {name: deque[str](maxlen=LAST_LINES) for name in names}
        if coloured:
            for name, colour in zip(names, cycle(COLOURS), strict=False):
                self._prefixes[name] = f"\x1b[{colour}m{name:<{width}} |\x1b[0m "

    def write(self, name: str, text: str) -> None:
        """Write ``text``, of one or more lines, of the process ``name``: to the screen if there is no file."""
        self._last[name].append(text)
        self._write(name, text, on_screen=bool(_SERIOUS.search(text) and not _NOISE.search(text)))

    def say(self, name: str, text: str) -> None:
        """Write ``text`` to the screen, and to the file if there is one."""
        self._write(name, text, on_screen=True)

    def last_line(self, name: str) -> str:
        """Return the last line that a process wrote and that is not empty, "" if it wrote none."""
        lines = (line.strip() for text in reversed(self._last[name]) for line in reversed(text.split("\n")))
        return next(filter(None, lines), "")

    def show_last(self, name: str) -> None:
        """Show the last lines of a process, unless the screen has had them."""
        if self._file and self._last[name]:
            for text in (f"the last lines of {name}:", *self._last[name]):
                self._to_screen(_block(self._prefixes[name], text))
        self._last[name].clear()

    def _write(self, name: str, text: str, *, on_screen: bool) -> None:
        if not self._to_file(_block(self._plain[name], text)) or on_screen:
            self._to_screen(_block(self._prefixes[name], text))

    def _to_file(self, block: str) -> bool:
        """Return whether the file has ``block``. One that cannot be written is closed; the screen gets all then."""
        with self._lock:
            if self._file is None:
                return False
            try:
                self._file.write(block)
                self._file.flush()
                return True
            except OSError as error:
                problem = f"The log cannot be written ({error.strerror}): its lines follow here\n"
                with suppress(OSError):
                    self._file.close()
                self._file = None
        self._to_screen(problem)
        return False

    def _to_screen(self, block: str) -> None:
        with self._lock:
            if self._gone:
                return
            try:
                self._out.write(block)
                self._out.flush()
            except (OSError, ValueError):  # a broken pipe, a hung-up terminal, a closed file
                self._gone = True
        if self._gone:
            self._on_gone()


def _block(prefix: str, text: str) -> str:
    return "".join(f"{prefix}{line}".rstrip() + "\n" for line in text.split("\n"))
