"""``python -m devtools.fake_model``. Nothing is monkey patched: all that waits here is gevent's own."""

from __future__ import annotations

import argparse
import contextlib
from typing import Any

import gevent  # type: ignore[import-untyped, unused-ignore]
import gevent.os  # type: ignore[import-untyped, unused-ignore]
import gevent.server  # type: ignore[import-untyped, unused-ignore]

from .server import Server
from .state import Settings

BACKLOG = 2_048  # connections waiting to be accepted: a benchmark opens all of its own at once


def until_stdin_closes(listener: Any) -> None:
    gevent.os.make_nonblocking(0)
    while gevent.os.nb_read(0, 1024):
        pass
    listener.stop(timeout=0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m devtools.fake_model", description="a fake model server")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0 takes any that is free")
    parser.add_argument("--model", default="EleutherAI/gpt-j-6B")
    parser.add_argument("--first", type=float, default=0, metavar="MS", help="before the first token")
    parser.add_argument("--interval", type=float, default=0, metavar="MS", help="between two tokens")
    parser.add_argument("--tokens", type=int, default=0, metavar="N", help="in a reply, at least")
    parser.add_argument("--no-record", action="store_true", help="keep no bodies, prompts and headers")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the process that started it")
    given = parser.parse_args()
    settings = Settings(first=given.first, interval=given.interval, tokens=given.tokens)
    server = Server(settings, model=given.model, keep_bodies=not given.no_record)
    listener = gevent.server.StreamServer((given.host, given.port), server.accept, backlog=BACKLOG)
    listener.start()
    print(f"listening on http://{given.host}:{listener.server_port}", flush=True)
    if given.until_stdin_closes:
        gevent.spawn(until_stdin_closes, listener)
    with contextlib.suppress(KeyboardInterrupt):
        listener.serve_forever()


if __name__ == "__main__":
    main()
