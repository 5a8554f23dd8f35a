"""``python -m devtools.fake_model``: the fake model server. Nothing is monkey patched: gevent does all waiting."""

from __future__ import annotations

import argparse
import contextlib
from typing import Any

import gevent  # type: ignore[import-untyped, unused-ignore]
import gevent.os  # type: ignore[import-untyped, unused-ignore]
import gevent.server  # type: ignore[import-untyped, unused-ignore]

from devtools.fake_model.server import Server
from devtools.fake_model.state import Controls

BACKLOG = 2_048  # connections waiting to be accepted: a test may open all of its own at once


def until_stdin_closes(listener: Any) -> None:
    gevent.os.make_nonblocking(0)
    while gevent.os.nb_read(0, 1024):
        pass
    listener.stop(timeout=0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m devtools.fake_model", description="Serves the fake model.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0 for any free port (8080)")
    parser.add_argument("--model", default="EleutherAI/gpt-j-6B")
    parser.add_argument("--first", type=float, default=0, metavar="MS", help="milliseconds before the first token (0)")
    parser.add_argument("--interval", type=float, default=0, metavar="MS", help="milliseconds between two tokens (0)")
    parser.add_argument("--tokens", type=int, default=0, metavar="N", help="tokens of a reply, at least (0)")
    parser.add_argument("--no-record", action="store_true", help="store no bodies, prompts and headers")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when standard input closes")
    given = parser.parse_args()
    settings = Controls(first=given.first, interval=given.interval, tokens=given.tokens)
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
