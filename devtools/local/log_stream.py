"""One log stream for many processes: whole lines, each behind the padded name of its process."""

import io
import os
import threading
from collections.abc import Callable, Iterable
from itertools import cycle
from typing import TextIO

COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)  # ANSI; no red, which looks like an error


class LogStream:
    """Writes ``name | line`` to ``out``, from any thread. Never raises when ``out`` is gone.

    ``names`` fixes the padding and the colours; there are colours only when ``out`` is a terminal and NO_COLOR
    is not set. ``on_gone`` is called once, from the writing thread, when writing to ``out`` fails because the
    pager or the terminal went away.
    """

    def __init__(self, out: TextIO, names: Iterable[str], on_gone: Callable[[], None]) -> None:
        names = list(names)
        if isinstance(out, io.TextIOWrapper):
            out.reconfigure(errors="replace")  # a log line may hold characters that the terminal's encoding lacks
        self._out = out
        self._on_gone = on_gone
        self._gone = False
        self._lock = threading.Lock()
        width = max(map(len, names), default=0)
        coloured = out.isatty() and not os.environ.get("NO_COLOR")
        self._prefixes = {}
        for name, colour in zip(names, cycle(COLOURS), strict=False):
            prefix = f"{name:<{width}} |"
            self._prefixes[name] = f"\x1b[{colour}m{prefix}\x1b[0m " if coloured else f"{prefix} "

    def write(self, name: str, text: str) -> None:
        """Write ``text``, of one or more lines, behind the prefix of ``name``."""
        prefix = self._prefixes[name]
        block = "".join(f"{prefix}{line}".rstrip() + "\n" for line in text.split("\n"))
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
